"""Laws of aligner.json."""

from dataclasses import replace
from pathlib import Path

import pytest

from aligner.errors import CheckpointError
from aligner.templates import TEMPLATES
from aligner.training.card import Card, file_hash, weights_hash

_CARD = Card(
    template=TEMPLATES["sealed"],
    base="new",
    weights="0" * 64,
    data={"sha256": "1", "training": 3},
    training={"seed": 1, "correction": {"betas": [0.9, 0.95]}},
    measured={"copied": 0.5, "corrected_exactly": None},
    packages={"torch": "2.13.0"},
)


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Saving and loading gives an equal card, also with a template that this version does not know."""
    for card in (_CARD, replace(_CARD, template=replace(_CARD.template, name="mine", version=7))):
        card.save(tmp_path)
        assert Card.load(tmp_path) == card


def test_a_folder_without_a_card_is_no_aligner(tmp_path: Path) -> None:
    """What is missing or damaged is named."""
    with pytest.raises(CheckpointError, match=r"not an Aligner, it has no aligner\.json"):
        Card.load(tmp_path)
    for text in ("{", "[]", "{}", '{"template": {"name": "T1"}}'):
        (tmp_path / "aligner.json").write_text(text)
        with pytest.raises(CheckpointError, match="damaged"):
            Card.load(tmp_path)


def test_the_hash_is_of_all_weights(tmp_path: Path) -> None:
    """Any changed byte in any weight file changes the hash, and other files do not."""
    (tmp_path / "model.safetensors").write_bytes(b"a")
    alone = weights_hash(tmp_path)
    assert alone == file_hash(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert weights_hash(tmp_path) == alone
    (tmp_path / "other.safetensors").write_bytes(b"b")
    both = weights_hash(tmp_path)
    (tmp_path / "other.safetensors").write_bytes(b"c")
    assert len({alone, both, weights_hash(tmp_path)}) == 3
