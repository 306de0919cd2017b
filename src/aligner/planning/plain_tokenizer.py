"""A tokenizer.json as the prompt's encoder needs it, without transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from time import strftime
from typing import Any, cast

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from aligner.training.byte_level import BOS


class PlainTokenizer:
    """A tokenizer in the words of Hugging Face's: it encodes as transformers would with the same folder."""

    def __init__(self, core: Tokenizer, settings: Mapping[str, Any], *, chat_template: str | None = None) -> None:
        self.core = core
        self.added_tokens_decoder: Mapping[int, Any] = core.get_added_tokens_decoder()
        self.chat_template: Any = chat_template
        self._words = {name: _text(settings.get(name)) for name in ("bos_token", "eos_token", "pad_token")}
        self.bos_token_id: int | None = core.token_to_id(self._words["bos_token"])
        self._adds_bos = bool(settings.get("add_bos_token"))

    def __call__(self, text: str, **options: Any) -> Mapping[str, Any]:
        """Encode."""
        self.core.encode_special_tokens = bool(options.get("split_special_tokens", False))
        adds = bool(options.get("add_special_tokens", True))
        ids = self.core.encode(text, add_special_tokens=adds).ids
        if adds and self._adds_bos and self.bos_token_id is not None and ids[:1] != [self.bos_token_id]:
            ids = [self.bos_token_id, *ids]
        return {"input_ids": ids}

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render a conversation as the base model's makers meant it; whoever wrote the template cannot do more."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _json
        template = environment.from_string(self.chat_template, {"raise_exception": _refuse, "strftime_now": strftime})
        generation = options.get("add_generation_prompt", False)
        return template.render(messages=conversation, add_generation_prompt=generation, **self._words)


class _Generation(Extension):
    """The tag that marks what the assistant says, which changes no letter of it."""

    tags = {"generation"}  # noqa: RUF012  # as the library wants it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """What stands between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def tokenizer_in(folder: Path) -> PlainTokenizer:
    """The tokenizer of a model's folder; raises OSError, ValueError or the library's own error for none."""
    core = Tokenizer.from_file(str(folder / "tokenizer.json"))
    core.no_truncation()
    core.no_padding()
    settings = json_in(folder / "tokenizer_config.json")
    beside = folder / "chat_template.jinja"
    chat = beside.read_text(encoding="utf-8") if beside.is_file() else settings.get("chat_template")
    return PlainTokenizer(core, settings, chat_template=chat if isinstance(chat, str) else None)


def new_tokenizer(core: Tokenizer) -> PlainTokenizer:
    """A tokenizer learnt just now."""
    return PlainTokenizer(core, {"bos_token": BOS})


def json_in(path: Path) -> dict[str, Any]:
    """The object in a JSON file; none where there is no file."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_bytes())
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _text(token: object) -> str:
    """A control token's text; older files hold an object in its place."""
    found = cast("dict[str, object]", token).get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""


def _json(value: Any, **options: Any) -> str:
    """As transformers writes it: nothing is escaped for HTML."""
    plain: dict[str, Any] = {"ensure_ascii": False, **options}
    return json.dumps(value, **plain)


def _refuse(message: str) -> None:
    raise TemplateError(message)
