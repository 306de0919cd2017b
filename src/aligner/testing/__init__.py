"""A scripted upstream that speaks OpenAI's wire format, well or badly, and a corpus of requests to it."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aligner.testing.answering import by_model
    from aligner.testing.corpus import CORPUS, Entry
    from aligner.testing.named import SCRIPTS
    from aligner.testing.script import Asked, Chunk, Script, always, in_turn
    from aligner.testing.upstream import Call, Upstream, serving

__all__ = [
    "CORPUS",
    "SCRIPTS",
    "Asked",
    "Call",
    "Chunk",
    "Entry",
    "Script",
    "Upstream",
    "always",
    "by_model",
    "in_turn",
    "serving",
]

_HOMES: Mapping[str, str] = {
    "CORPUS": "corpus",
    "SCRIPTS": "named",
    "Asked": "script",
    "Call": "upstream",
    "Chunk": "script",
    "Entry": "corpus",
    "Script": "script",
    "Upstream": "upstream",
    "always": "script",
    "by_model": "answering",
    "in_turn": "script",
    "serving": "upstream",
}


def __getattr__(name: str) -> Any:
    # The server needs packages that the checks do without.
    if name not in _HOMES:
        raise AttributeError(f'module "{__name__}" has no attribute "{name}"')
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
