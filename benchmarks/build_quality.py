"""Do triples that were built teach as well as those that the closed world gives away?

python benchmarks/build_quality.py           84,000 recorded answers, trained on, measured as in the demo
python benchmarks/build_quality.py --quick   1,500 of them, and a look at every correction

Most answers come with their source, as eleven flawed upstreams gave them; a part of the questions is put to three
upstreams: a recording, a server in front of a profile, and `transformers serve` with the small upstream that ships.
The annotator is a server that knows the oracle, a tenth of whose first replies cannot be read.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from environments import TRANSFORMERS, python_of
from record import record

from aligner.build import build
from aligner.config import (
    BuildAnnotator,
    BuildConfig,
    BuildFilters,
    BuildSource,
    BuildUpstream,
    DemoConfig,
    TrainConfig,
    packaged_config,
    read_config,
)
from aligner.correct import Aligner
from aligner.demo import correct_upstreams, nearest_neighbour, summary
from aligner.files import read_rows, write_rows
from aligner.files.bad_rows import bad_rows_named
from aligner.train import train
from aligner.world.oracle import mark
from aligner.world.profiles import PROFILES
from aligner.world.questions import read_question
from aligner.world.rows import answer, training_rows

_ROOT = Path(__file__).parents[1]
_UPSTREAM = _ROOT / "src" / "aligner" / "assets" / "upstream"
_ROWS = 84_000
_QUICK_ROWS = 1_500
_SERVED = 100
"""questions that the small upstream answers, ten a second"""
_ASKED = 0.05
"""of the questions that upstreams are asked, too"""
_EPOCHS = 2
"""fewer different rows than the demo has, since equal ones are one; with two rounds the steps are more"""


def main() -> None:
    """Build, train and measure; print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="build a little, and train nothing")
    parser.add_argument("--out", type=Path, help="folder of the build and of the training; a new one unless given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = given.out or Path(scratch)
        began = time.monotonic()
        rows = build_triples(out, _QUICK_ROWS if given.quick else _ROWS)
        seconds = {"build": round(time.monotonic() - began, 1)}
        figures = {"rows": len(rows), "good_corrections": sum(map(is_good, rows)) / len(rows), "seconds": seconds}
        if not given.quick:
            began = time.monotonic()
            figures |= trained(out, rows)
            seconds["training"] = round(time.monotonic() - began, 1)
    record("build_quick" if given.quick else "build_quality", figures)


def build_triples(out: Path, count: int) -> list[dict[str, Any]]:
    """The training rows of a build whose questions and recorded answers are those of the demo."""
    out.mkdir(parents=True, exist_ok=True)
    made = list(training_rows(count=count, seed=0))
    asked = [row.asked for row in made[: int(_ASKED * count)]]
    write_rows(out / "given.jsonl", ({"question": row.asked.text, "answer": row.answer} for row in made))
    write_rows(out / "questions.jsonl", ({"question": one.text} for one in asked))
    said = ((one.text, answer(Random(one.text), PROFILES["surly"], one, split="seen").answer) for one in asked)
    write_rows(out / "recorded.jsonl", ({"question": text, "answer": words} for text, words in said))
    tests = str(_ROOT / "tests")
    broken = ("--broken", "0.1", "--fenced", "0.2")
    with (
        program(out / "careless.log", sys.executable, f"{tests}/profile_server.py", "careless") as careless,
        program(out / "oracle.log", sys.executable, f"{tests}/oracle_annotator.py", *broken) as oracle,
        small_upstream(out / "small.log") as small,
    ):
        build(config_of(out, careless, oracle, small, served=_SERVED / (_ASKED * count)))
    shards = sorted((out / "built" / "dataset").glob("train-*.jsonl"))
    return [dict(row.data) for path in shards for row in read_rows(path, bad_rows=bad_rows_named("stop", path))]


def config_of(out: Path, careless: str, oracle: str, small: str, *, served: float) -> BuildConfig:
    """The whole build; the slowest upstream answers the least."""
    return BuildConfig(
        out=out / "built",
        sources=(
            BuildSource(path=str(out / "given.jsonl"), name="eleven", takes="answers", licence="Apache-2.0"),
            BuildSource(path=str(out / "questions.jsonl"), name="asked", licence="Apache-2.0"),
        ),
        upstreams=(
            BuildUpstream(name="recorded", model=f"replay:{out / 'recorded.jsonl'}", at_a_time=32),
            BuildUpstream(name="careless", model=f"openai:careless@{careless}", at_a_time=16),
            BuildUpstream(
                name="small",
                model=f"openai:{_UPSTREAM}@{small}",
                share=min(1.0, served),
                at_a_time=2,
                temperature=0.0,
                top_p=1.0,
                top_k=0,
                max_tokens=96,
            ),
        ),
        annotators=(BuildAnnotator(name="oracle", model=f"openai:oracle@{oracle}", at_a_time=32),),
        filters=BuildFilters(near_duplicate=0.0, min_ratio=0.05, max_ratio=20),
        splits=replace(BuildConfig().splits, validation=0.01),
        twice=0.0,
        judge="world:",
    )


def is_good(row: dict[str, Any]) -> bool:
    """Whether the oracle finds nothing wrong with a correction."""
    asked = read_question(row["question"])
    return asked is not None and mark(asked, row["correction"]).good


def trained(out: Path, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What an Aligner that learnt from the rows fixes and keeps, as the demo measures it."""
    write_rows(out / "triples.jsonl", rows)
    config = read_config(TrainConfig, packaged_config("demo"), triples=out / "triples.jsonl", out=out / "training")
    checkpoint = train(replace(config, correction=replace(config.correction, epochs=_EPOCHS)))
    demo = DemoConfig()
    outcomes = correct_upstreams(Aligner.from_pretrained(str(checkpoint), device="cpu"), demo.answers)
    return summary(outcomes, nearest_neighbour(demo.seed))


@contextmanager
def program(log: Path, *command: str, ready: str = r"(http://[\d.:]+\S*)") -> Generator[str]:
    """A server as a process of its own that writes into a log; gives the address that stands there."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while (found := re.search(ready, log.read_text(errors="replace"))) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[1]} is not ready: see {log}")
            time.sleep(0.1)
        yield found[1]
    finally:
        process.kill()
        process.wait()


@contextmanager
def small_upstream(log: Path) -> Generator[str]:
    """`transformers serve` with the shipped upstream."""
    transformers = python_of("transformers-serve", TRANSFORMERS).parent / "transformers"
    command = (str(transformers), "serve", str(_UPSTREAM), "--host", "127.0.0.1", "--port", "0", "--device", "cpu")
    with program(log, *command, ready=r"running on (http://[\d.]+:\d+)") as address:
        yield f"{address}/v1"


if __name__ == "__main__":
    main()
