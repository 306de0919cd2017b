"""The benchmark of near-duplicates plants what it says, finds it, and ends with one line of JSON."""

import json
import sys
from pathlib import Path

import dedup
import pytest
import record

from aligner.data.near_duplicates import tokens_of


def test_planted_copies_are_found_among_the_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 400 copies at least 390 are found, with no more than 4 others; the last line says so, and how long it took."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["dedup.py", "--quick"])
    dedup.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["documents"] == 4400
    assert figures["found"] >= 390
    assert figures["false"] <= 4
    assert figures["seconds"] > 0
    assert json.loads((tmp_path / "dedup_quick.json").read_text())["found"] == figures["found"]


def test_documents_are_as_they_are_described() -> None:
    """Each copy differs from its original in 4 of 200 words, and stands behind all originals."""
    texts = dict(dedup.documents())
    assert len(texts) == 4400
    for name in list(texts)[4000:]:
        pairs = zip(texts[name].split(), texts[name.removesuffix(" again")].split(), strict=True)
        assert sum(first != second for first, second in pairs) == 4


def test_questions_are_planted_among_others_and_found() -> None:
    """About one in ten repeats an earlier question with one other word; nearly all are found, and nothing else."""
    made = dedup.Made()
    texts = dict(dedup.questions(3000, made))
    assert len(texts) == 3000
    assert 200 < len(made.planted) <= 300
    for later, earlier in made.planted.items():
        assert earlier < later
        first, second = (tokens_of(texts[str(number)]) for number in (earlier, later))
        assert sum(a != b for a, b in zip(first, second, strict=True)) == 1
    figures = dedup.full(3000)
    assert figures["found"] >= 0.99 * figures["planted"]
    assert figures["false"] <= 3
