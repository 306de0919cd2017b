"""How well the gate of the shipped Aligner keeps its promise on answers that it was not fitted to.

python benchmarks/gate.py           200 held-out answers of each upstream of the closed world
python benchmarks/gate.py --quick   100 of them
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

from record import record

from aligner.calibrate import raw_confidences
from aligner.correcting.lm_writer import load_checkpoint
from aligner.correcting.writers import shipped
from aligner.demo import held_out
from aligner.scoring.calibration import brier, calibration_error
from aligner.scoring.intervals import Interval
from aligner.scoring.shares import wilson
from aligner.world.oracle import mark
from aligner.world.profiles import PROFILES
from aligner.world.rows import Row


def main() -> None:
    """Measure, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="half as many answers")
    parser.add_argument("--aligner", default=str(shipped("aligner")), help="a checkpoint with a gate")
    arguments = parser.parse_args()
    start, writer = time.monotonic(), load_checkpoint(arguments.aligner, "cpu")
    if writer.calibration is None or writer.threshold is None:
        raise SystemExit(f"{arguments.aligner}: has no gate")
    rows = held_out(100 if arguments.quick else 200)
    confidences = raw_confidences(writer, [row.triple for row in rows])
    # What has no confidence is as unsure as can be.
    probabilities = [0.0 if raw is None else writer.calibration.curve.probability(raw) for raw in confidences]
    seen = [PROFILES[row.profile].seen for row in rows]
    figures = {
        **measured(rows, probabilities, writer.threshold),
        "threshold": writer.threshold,
        "wanted": writer.calibration.wanted,
        "unseen_upstreams": measured(*picked(rows, probabilities, [not one for one in seen]), writer.threshold),
        "seconds": round(time.monotonic() - start, 1),
    }
    record("gate", figures)


def measured(rows: Sequence[Row], probabilities: Sequence[float], threshold: float) -> dict[str, Any]:
    """Calibration, and who passes, each with its 95 % interval: over questions, or that of a share."""
    good = [mark(row.asked, row.answer).good for row in rows]
    questions = [row.asked.text for row in rows]
    passes = [probability >= threshold for probability in probabilities]
    skipped = sum(one and is_good for one, is_good in zip(passes, good, strict=True))
    let_through = sum(passes) - skipped
    flawed = len(good) - sum(good)
    return {
        "answers": len(rows),
        "flawed": flawed,
        **named("ece", calibration_error(probabilities, good, questions)),
        **named("brier", brier(probabilities, good, questions)),
        "let_through": let_through / flawed,
        "let_through_interval": wilson(let_through, flawed),
        "skipped_good": skipped / sum(good),
        "skipped_good_interval": wilson(skipped, sum(good)),
    }


def named(name: str, found: Interval) -> dict[str, Any]:
    """A figure and its interval."""
    return {name: found.value, f"{name}_interval": [found.low, found.high]}


def picked(
    rows: Sequence[Row], probabilities: Sequence[float], wanted: Sequence[bool]
) -> tuple[list[Row], list[float]]:
    """Those rows that are wanted."""
    kept = [pair for pair, one in zip(zip(rows, probabilities, strict=True), wanted, strict=True) if one]
    return [row for row, _ in kept], [probability for _, probability in kept]


if __name__ == "__main__":
    main()
