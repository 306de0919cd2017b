"""Laws of length control."""

import csv
import gzip
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from aligner.scoring.lengths import Column, length_controlled, of_like_length

ALPACA_EVAL = {"FuseChat-Gemma-2-9B-Instruct": 69.91, "gpt-3.5-turbo-1106": 22.63, "claude-2.1": 27.94}
"""what alpaca_eval 0.6.6's own regression gives with the refitted difficulty and no gamed rows"""


def test_answers_of_equal_length_have_nothing_to_control() -> None:
    """Both rates are the mean preference."""
    preference, length = np.array([1.0, 0.0, 1.0, 0.5] * 200), np.full(800, 100.0)
    found = length_controlled(preference, length, length)
    assert found.controlled == pytest.approx(found.raw, abs=0.1)


def test_a_preference_for_length_alone_is_taken_away() -> None:
    """Where the longer answer wins as often as it is longer, the controlled rate is a half."""
    random = np.random.default_rng(0)
    own, other = random.uniform(100, 300, 4000), random.uniform(50, 200, 4000)
    gap = other - own
    preference = 1 / (1 + np.exp(2.0 * np.tanh(gap / gap.std(ddof=1))))
    found = length_controlled(preference, own, other)
    assert found.raw > 60
    assert found.controlled == pytest.approx(50, abs=0.5)
    assert found.effect == pytest.approx(-2.0, abs=0.1)


def test_the_other_side_wins_the_rest() -> None:
    """Seen from the other answer, both rates add up to 100."""
    random = np.random.default_rng(1)
    own, other, preference = random.uniform(1, 9, 500), random.uniform(2, 11, 500), random.uniform(0, 1, 500)
    mine, theirs = length_controlled(preference, own, other), length_controlled(1 - preference, other, own)
    assert mine.raw + theirs.raw == pytest.approx(100)
    assert mine.controlled + theirs.controlled == pytest.approx(100, abs=0.01)


def test_like_lengths_are_within_a_tenth() -> None:
    """Of the other's length."""
    near = of_like_length(np.array([90.0, 89.0, 110.0, 111.0]), np.full(4, 100.0))
    assert near.tolist() == [True, False, True, False]


def test_one_prompt_is_no_fit() -> None:
    """It says nothing of length."""
    with pytest.raises(ValueError, match="at least two prompts"):
        length_controlled(np.ones(1), np.ones(1), np.ones(1))


def test_the_rates_are_those_of_alpaca_eval(real_data: Path) -> None:
    """Controlled within 0.1 points of its own regression; raw those of the leaderboard, exactly."""
    folder = real_data / "alpaca_eval"
    difficulty = np.load(folder / "derived_instruction_difficulty_refit.npy")
    by_model = defaultdict[str, list[dict[str, str]]](list)
    with gzip.open(folder / "derived_annotations_57models.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            by_model[row["model"]].append(row)
    with (folder / "weighted_alpaca_eval_gpt4_turbo_leaderboard.csv").open() as file:
        leaderboard = {row[""]: float(row["win_rate"]) for row in csv.DictReader(file)}

    def column(rows: list[dict[str, str]], name: str) -> Column:
        return np.array([float(row[name]) for row in rows])

    found = {
        model: length_controlled(
            column(rows, "preference"),
            column(rows, "len_model"),
            column(rows, "len_baseline"),
            difficulty[[int(row["prompt_index"]) for row in rows]],
        )
        for model, rows in by_model.items()
    }
    assert len(found.keys() & leaderboard.keys()) == 56
    assert all(abs(found[model].raw - leaderboard[model]) < 1e-8 for model in found.keys() & leaderboard.keys())
    assert all(abs(found[model].controlled - rate) <= 0.1 for model, rate in ALPACA_EVAL.items())
