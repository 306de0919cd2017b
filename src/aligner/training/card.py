"""`aligner.json`: what makes a Hugging Face directory an Aligner."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, cast

from aligner.errors import CheckpointError
from aligner.files import write_json_atomic
from aligner.templates import Template, template_of

NAME = "aligner.json"
_PACKAGES = ("aligner-llm", "torch", "transformers", "tokenizers", "trl", "peft", "accelerate", "datasets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """How a checkpoint came to be and how it must be read."""

    template: Template
    base: str
    weights: str
    """hash of the weights"""
    data: Mapping[str, Any]
    """hash of the triples, and how many rows went where"""
    training: Mapping[str, Any]
    """the training configuration, without the paths of one machine"""
    measured: Mapping[str, Any]
    """copy and fix rates on held-out rows"""
    packages: Mapping[str, str]
    stages: Sequence[Mapping[str, Any]] = ()
    """the stages in their order, each with its hash, that of its parent, and its steps"""
    gate: Mapping[str, Any] | None = None
    """from confidences to probabilities that no change is needed, and a threshold (`training.gate`)"""

    def save(self, folder: Path) -> None:
        """Write the card; a folder with a card is a finished checkpoint."""
        write_json_atomic(folder / NAME, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The card of a checkpoint; raises CheckpointError where there is none, or no whole one."""
        path = folder / NAME
        try:
            fields = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
            stages = tuple(fields.pop("stages", ()))
            return cls(template=template_of(fields.pop("template")), stages=stages, **fields)
        except FileNotFoundError:
            cure = "an Aligner's folder is what `aligner train` makes"
            raise CheckpointError(f"{folder}: not an Aligner, it has no {NAME}; {cure}") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path}: damaged, or of another version of this package: {error}") from error


def installed_packages() -> dict[str, str]:
    """The versions on which the weights depend."""
    return {name: version(name) for name in _PACKAGES}


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(folder: Path) -> str:
    """One hash of all weight files in a folder, whatever their number; raises CheckpointError where there are none."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not files:
        raise CheckpointError(f"{folder}: no weights of a model, neither *.safetensors nor *.bin")
    if len(files) == 1:
        return file_hash(files[0])
    return hashlib.sha256("".join(map(file_hash, files)).encode()).hexdigest()


def model_hash(folder: Path) -> str:
    """One hash of all that a model is made of: weights, configuration, tokenizer and chat template."""
    kinds = ("*.json", "*.jinja", "*.model", "*.txt")
    others = sorted(path for kind in kinds for path in folder.glob(kind) if path.name != NAME)
    return hashlib.sha256("".join([weights_hash(folder), *map(file_hash, others)]).encode()).hexdigest()
