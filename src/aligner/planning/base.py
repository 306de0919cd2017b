"""What a training starts from, as far as it can be seen without loading it."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

from aligner.config import TrainConfig
from aligner.planning.plain_tokenizer import PlainTokenizer, new_tokenizer, tokenizer_in
from aligner.planning.sizes import Shape, new_shape, shape_in
from aligner.records import Triple
from aligner.templates import PromptEncoder, template_named
from aligner.training.byte_level import byte_level_bpe, texts_of

_READ = 20_000
"""triples, at the most, of which a vocabulary is learnt for a plan"""
_SIZES = ("*.json", "*.jinja")
_SECONDS_TO_REACH_THE_HUB = 10.0


class Base(NamedTuple):
    """A model's sizes and its tokenizer; what is not known is None, and `unknown` says why."""

    name: str
    shape: Shape | None
    tokenizer: PlainTokenizer | None
    unknown: str = ""


def base_of(config: TrainConfig, triples: Sequence[Triple]) -> Base:
    """The base of a training; the tokenizer of a new one is learnt from these triples. Nothing is fetched."""
    if config.base == "new":
        controls = template_named(config.template).controls
        core = byte_level_bpe(texts_of(triples[:_READ]), controls, vocabulary=config.new.vocabulary)
        return Base("new", new_shape(config.new, core.get_vocab_size()), new_tokenizer(core))
    folder = _folder(config.base)
    if folder is None:
        return Base(config.base, None, None, f"{config.base} is not on this machine: fetch it to plan with its sizes")
    shape = tokenizer = None
    problems: list[str] = []
    try:
        shape = shape_in(folder)
    except (KeyError, OSError, TypeError, ValueError):
        problems.append("its config.json does not say the sizes of a Llama-like model")
    try:
        tokenizer = tokenizer_in(folder)
    except Exception:  # noqa: BLE001  # the library raises nothing narrower
        problems.append("it has no tokenizer.json that can be read")
    if tokenizer and not _is_rendered(config.template, tokenizer):
        tokenizer = None
        problems.append("its chat template cannot be rendered without transformers")
    return Base(config.base, shape, tokenizer, f"{config.base}: {'; '.join(problems)}" if problems else "")


def fetch_sizes(base: str) -> None:
    """Fetch what says how large a base on the hub is and how it reads, but no weight.

    Nothing is fetched where it is here already, or the hub cannot be reached: then loading it says why.
    """
    if base == "new" or _folder(base):
        return
    import huggingface_hub as hub

    with suppress(Exception):  # of whichever network library the hub's client stands on
        # Asked once, with a limit, as the client itself would try for long.
        hub.HfApi().model_info(base, timeout=_SECONDS_TO_REACH_THE_HUB)
        cast("Any", hub).snapshot_download(base, allow_patterns=_SIZES)


def _is_rendered(template: str, tokenizer: PlainTokenizer) -> bool:
    """Whether the prompt can be built; a chat template is a program, which may ask for what is not here."""
    if not template_named(template).system:
        return True
    try:
        PromptEncoder(template_named(template), tokenizer).prompt_ids("a", "b")
    except Exception:  # noqa: BLE001  # whatever that program raises
        return False
    return True


def _folder(name: str) -> Path | None:
    """The local directory of that name, or where the hub's client keeps what it fetched before."""
    local = Path(name).expanduser()
    if local.is_dir():
        return local
    import huggingface_hub as hub

    try:
        found = cast("Any", hub).try_to_load_from_cache(name, "config.json")
    except ValueError:  # no hub id
        return None
    return Path(found).parent if isinstance(found, str) else None
