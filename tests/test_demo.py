"""Laws of the demo."""

import json
from pathlib import Path

import pytest

from aligner.config import DemoConfig
from aligner.correct import Aligner
from aligner.demo import correct_upstreams, demo, held_out, nearest_neighbour, summary, train_demo
from aligner.world.measure import tally
from aligner.world.profiles import PROFILES


@pytest.mark.slow
def test_an_echo_scores_nothing_and_breaks_nothing() -> None:
    """With the perfect copy in the Aligner's place, the demo's figures are zero fixed and all kept."""
    figures = summary(correct_upstreams(Aligner.from_pretrained("echo:"), 5), nearest_neighbour(0))
    assert (figures["fix_rate"], figures["keep_rate"]) == (0.0, 1.0)
    assert (figures["unseen_fix_rate"], figures["unseen_keep_rate"]) == (0.0, 1.0)
    assert figures["upstreams"] == len(figures["by_upstream"]) == len(PROFILES)
    assert all(group["net_rate"] == 0 for group in figures["by_upstream"].values())
    assert figures["answers"] == 5 * len(PROFILES)


def test_held_out_answers_are_the_same_for_any_count() -> None:
    """More answers for each upstream begin with the fewer."""
    few, many = held_out(3), held_out(6)
    assert [row for i, row in enumerate(many) if i % 6 < 3] == few


@pytest.mark.slow
def test_the_shipped_aligner_does_what_the_package_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checkpoint in the package beats the most similar training row by far, and the demo prints its table."""
    demo(DemoConfig(out=tmp_path, answers=10, shipped=True))
    report = json.loads((tmp_path / "demo.json").read_text())
    assert report["nearest_neighbour_fix_rate"] < 0.4
    assert report["fix_rate"] > 0.9
    assert report["keep_rate"] > 0.95
    printed = capsys.readouterr().out
    assert all(name in printed for name in PROFILES)
    assert "net rate" in printed


def test_a_short_training_goes_through_the_whole_demo(tmp_path: Path) -> None:
    """Data, both stages, correction and figures fit together, with a training too short to learn anything."""
    toml = tmp_path / "short.toml"
    toml.write_text(
        """
        max_length = 256
        held_out = 20
        device = "cpu"
        [new]
        layers = 1
        width = 16
        heads = 2
        inner = 32
        vocabulary = 500
        context = 128
        [identity]
        max_steps = 2
        batch = 4
        accumulate = 1
        [correction]
        max_steps = 2
        batch = 4
        accumulate = 1
        """
    )
    checkpoint = train_demo(DemoConfig(out=tmp_path / "run", training=toml), count=200)
    outcomes = correct_upstreams(Aligner.from_pretrained(str(checkpoint), device="cpu"), 2)
    assert len(outcomes) == 2 * len(PROFILES)
    assert tally(outcomes).fixed == 0
