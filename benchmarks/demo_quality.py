"""How many flawed answers of the closed world the Aligner fixes, and how many good ones it returns as they were.

python benchmarks/demo_quality.py           trains as `aligner demo` does
python benchmarks/demo_quality.py --quick   measures the shipped checkpoint
"""

import argparse
import time
from pathlib import Path

from record import record

from aligner.config import DemoConfig
from aligner.correct import Aligner
from aligner.demo import correct_upstreams, nearest_neighbour, summary, train_demo


def main() -> None:
    """Measure, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure the shipped checkpoint instead of training one")
    parser.add_argument("--answers", type=int, default=200, help="held-out answers for each upstream")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="run folder of the training")
    arguments = parser.parse_args()
    config = DemoConfig(out=arguments.out, answers=arguments.answers)
    start = time.monotonic()
    checkpoint = "demo" if arguments.quick else str(train_demo(config))
    trained = time.monotonic()
    outcomes = correct_upstreams(Aligner.from_pretrained(checkpoint, device="cpu"), config.answers)
    figures = summary(outcomes, nearest_neighbour(config.seed))
    seconds = {"training": round(trained - start, 1), "correcting": round(time.monotonic() - trained, 1)}
    record("demo_quality", {"checkpoint": "shipped" if arguments.quick else "live", **figures, "seconds": seconds})


if __name__ == "__main__":
    main()
