"""What tells whether the models of a study are still the same, without loading them."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from aligner.bootstrapping.artefacts import content_hash
from aligner.bootstrapping.naming import folder_of_judge
from aligner.config import BootstrapConfig
from aligner.correcting.stamps import stamp_of_aligner
from aligner.correcting.writers import shipped
from aligner.training.card import NAME, Card, file_hash, model_hash


def stamps_of(config: BootstrapConfig, upstreams: Mapping[int, Path]) -> Mapping[str, str]:
    """A hash of every model that lies on this machine, and the names of the others.

    Keys are "upstream SEED", "aligner PLACE" from 0, "judge", and "audit_judge" and "original" where there are such.
    Raises CheckpointError for a folder that holds no Aligner, or no model.
    """
    hashes = {folder: model_hash(folder) for folder in {*upstreams.values()}}
    stamps = {f"upstream {seed}": hashes[folder] for seed, folder in upstreams.items()}
    stamps |= {f"aligner {place}": _of_aligner(name) for place, name in enumerate(config.aligners)}
    stamps |= {"judge": _of_judge(config.judge)}
    if config.audit_judge:
        stamps |= {"audit_judge": _of_judge(config.audit_judge)}
    if config.mix.original:
        stamps |= {"original": file_hash(config.mix.original)}
    return stamps


def _of_aligner(name: str) -> str:
    folder = shipped("aligner") if name == "demo" else Path(name).expanduser()
    if not folder.is_dir():
        return stamp_of_aligner(name) or name
    Card.load(folder)  # without a card it is no Aligner
    return sha256(f"{file_hash(folder / NAME)}{model_hash(folder)}".encode()).hexdigest()


def _of_judge(name: str) -> str:
    """With its name, which also says how it is asked."""
    folder = folder_of_judge(name)
    return f"{name} {content_hash(folder)}" if folder else name
