"""Train a small judge of truth on labelled answers, and measure it on questions that it has not seen."""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from aligner.config import TrainJudgeConfig
from aligner.data.labelled import Consistent, Labelled, consistent, labelled_of, part_of
from aligner.errors import MisuseError
from aligner.files import BadRows, bad_rows_named, read
from aligner.jobs import progress
from aligner.judging.features import FEATURES
from aligner.judging.fitting import Fitted, choose_and_fit
from aligner.judging.truth import Classifier, TruthJudge
from aligner.scoring.calibration import brier, calibration_error
from aligner.scoring.intervals import Interval, mean_interval

_KINDS = (".jsonl", ".jsonl.gz", ".parquet")
_PACKAGES = ("aligner-llm", "numpy", "scikit-learn", "scipy")


class Split(NamedTuple):
    """Answers to learn from, and answers to other questions to measure on."""

    training: list[Labelled]
    held_out: list[Labelled]


def train_judge(config: TrainJudgeConfig) -> TruthJudge:
    """aligner train-judge: read, split by question, choose, fit, measure, save; the same input gives the same judge."""
    files = _files(config.labelled)
    config.out.mkdir(parents=True, exist_ok=True)
    bad_rows = bad_rows_named(config.on_bad_row, config.out / "judge.json")
    found = consistent(row for path in files for row in _rows(path, bad_rows))
    bad_rows.finish()
    split = split_by_question(found.rows, config.held_out, seed=config.seed)
    with progress("train-judge", total=config.folds * len(FEATURES), unit="fits") as tick:
        fitted = choose_and_fit(split.training, folds=config.folds, seed=config.seed, on_fit=tick)
    card: dict[str, Any] = {
        "kind": "truth judge",
        "measured": measure(fitted.classifier, split.held_out),
        "data": _data(files, found, split),
        "training": _training(config, fitted),
        "weights": fitted.classifier.fingerprint,
        "packages": {name: version(name) for name in _PACKAGES},
    }
    judge = TruthJudge(fitted.classifier, card)
    judge.save(config.out)
    sys.stderr.write(f"{summary(card['measured'])}\n")
    return judge


def split_by_question(rows: Sequence[Labelled], parts: int, *, seed: int) -> Split:
    """One of so many parts of the questions held out; raises MisuseError where one side is left without answers."""
    split = Split([], [])
    for row in rows:
        (split.training if part_of(row.question, parts, seed=f"{seed} held out") else split.held_out).append(row)
    if not all(split):
        raise MisuseError(f"{len({row.question for row in rows})} questions are too few to hold out one in {parts}")
    return split


def measure(classifier: Classifier, rows: Sequence[Labelled]) -> dict[str, Any]:
    """Accuracy against always saying what most answers are, calibration and Brier score, with intervals over questions.

    Where many questions have the same answer, such as "I have no comment.", that one is easy: the same accuracy
    without the most common answer stands beside.
    """
    probabilities = [classifier.probability(row.question, row.answer) for row in rows]
    outcomes, questions = [row.is_true for row in rows], [row.question for row in rows]
    ((commonest, count),) = Counter(row.answer for row in rows).most_common(1)
    others = [place for place, row in enumerate(rows) if row.answer != commonest]
    return {
        "answers": len(rows),
        "questions": len(set(questions)),
        **_accuracy(rows, probabilities),
        "calibration_error": _shown(calibration_error(probabilities, outcomes, questions)),
        "brier": _shown(brier(probabilities, outcomes, questions)),
        "without_commonest": {
            "answer": commonest,
            "times": count,
            **_accuracy([rows[place] for place in others], [probabilities[place] for place in others]),
        },
    }


def summary(measured: Mapping[str, Any]) -> str:
    """The figures in one line."""
    gain, error = measured["gain"], measured["calibration_error"]
    between = f"[{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"
    return (
        f"{measured['answers']:,} answers to {measured['questions']:,} questions that it has not seen: "
        f"{measured['accuracy']['value']:.1%} right, {100 * gain['value']:+.1f} points {between} over the majority; "
        f"calibration error {error['value']:.3f} [{error['low']:.3f}, {error['high']:.3f}]"
    )


def _accuracy(rows: Sequence[Labelled], probabilities: Sequence[float]) -> dict[str, Any]:
    if not rows:
        return {}
    questions = [row.question for row in rows]
    right = [float((p >= 0.5) == row.is_true) for p, row in zip(probabilities, rows, strict=True)]
    most = 2 * sum(row.is_true for row in rows) >= len(rows)
    by_majority = [float(row.is_true == most) for row in rows]
    gains = [own - other for own, other in zip(right, by_majority, strict=True)]
    return {
        "accuracy": _shown(mean_interval(right, questions)),
        "majority": round(sum(by_majority) / len(rows), 6),
        "gain": _shown(mean_interval(gains, questions)),
    }


def _shown(interval: Interval) -> dict[str, float]:
    # Not to the last digit, which depends on how a processor adds.
    return {name: round(value, 6) for name, value in interval._asdict().items()}


def _files(labelled: Path) -> list[Path]:
    if not labelled.is_dir():
        return [labelled]
    found = sorted(path for path in labelled.iterdir() if path.name.lower().endswith(_KINDS))
    if not found:
        raise MisuseError(f"{labelled}: holds no {', '.join(_KINDS)} file")
    return found


def _rows(path: Path, bad_rows: BadRows) -> Iterator[Labelled]:
    return (labelled for _, labelled in read(path, labelled_of, bad_rows=bad_rows))


def _data(files: Sequence[Path], found: Consistent, split: Split) -> dict[str, Any]:
    return {
        "files": {path.name: _hash(path) for path in files},
        "answers": len(found.rows),
        "doublets": found.doublets,
        "contradictions": found.contradictions,
        "true": sum(row.is_true for row in found.rows),
        **{
            part: {"answers": len(rows), "questions": len({row.question for row in rows})}
            for part, rows in split._asdict().items()
        },
    }


def _training(config: TrainJudgeConfig, fitted: Fitted) -> dict[str, Any]:
    settings = {name: value for name, value in asdict(config).items() if not isinstance(value, Path)}
    return {**settings, "features": fitted.classifier.features, "log_loss": dict(fitted.losses)}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
