"""A small model that reads a question and any model's answer, and writes a better answer.

The names below are imported when they are first used, so that `import aligner` costs next to nothing.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aligner.correct import AlignedModel, Aligner
    from aligner.errors import AlignerError
    from aligner.models import load_model
    from aligner.records import Correction, Exchange, Message, SamplingParams, Triple

    __version__: str

__all__ = [
    "AlignedModel",
    "Aligner",
    "AlignerError",
    "Correction",
    "Exchange",
    "Message",
    "SamplingParams",
    "Triple",
    "__version__",
    "load_model",
]

_HOMES: Mapping[str, str] = {
    "AlignedModel": "aligner.correct",
    "Aligner": "aligner.correct",
    "AlignerError": "aligner.errors",
    "Correction": "aligner.records",
    "Exchange": "aligner.records",
    "Message": "aligner.records",
    "SamplingParams": "aligner.records",
    "Triple": "aligner.records",
    "load_model": "aligner.models",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("aligner-llm")
    if name not in _HOMES:
        raise AttributeError(f'module "{__name__}" has no attribute "{name}"')
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
