"""MATH: competition mathematics, marked by math-verify, which knows when two expressions are equal."""

import atexit
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import IO, Any, cast

from aligner.data.fields import text_field
from aligner.errors import MissingExtraError
from aligner.files import RowError
from aligner.records import SamplingParams
from aligner.tasks.rows import Place, read_items
from aligner.tasks.task import Item, Score, Task

_INSIDE = Path(__file__).with_name("maths_inside.py")
_PREFIX = re.compile(r"^Return your final response within \\boxed\{\}\.\s*")
_ASK = "{problem}\n\nThink step by step, and put the final answer into \\boxed{{}}."
_SECONDS = 10.0
"""for one comparison"""


def score(items: Sequence[Item], answers: Sequence[str]) -> list[Score]:
    """Right is what equals the gold answer, however it is written; MissingExtraError without math-verify."""
    if find_spec("math_verify") is None:
        raise MissingExtraError("marking MATH needs math-verify: pip install 'aligner-llm[evaluate]'")
    return _verifier().score([(item.gold, answer) for item, answer in zip(items, answers, strict=True)])


class _Verifier:
    """The process that compares, started when it is first needed; it ends with this one, or when it is closed."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command, self._lock = command, Lock()
        self._process: subprocess.Popen[str] | None = None

    def score(self, pairs: Sequence[tuple[str, str]], *, seconds: float = _SECONDS) -> list[Score]:
        """Whether the second of each pair equals the first."""
        with self._lock:
            return [self._compare(gold, answer, seconds) for gold, answer in pairs]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    cast(IO[str], pipe).close()

    def _compare(self, gold: str, answer: str, seconds: float) -> Score:
        self._process = process = self._process or self._start()
        stdin, stdout = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
        try:
            stdin.write(json.dumps({"gold": gold, "answer": answer, "seconds": seconds}) + "\n")
            stdin.flush()
            said = cast(dict[str, Any], json.loads(stdout.readline()))
        except (OSError, ValueError) as error:
            raise MissingExtraError("math-verify cannot be used here: it ended, instead of comparing") from error
        return Score(bool(said["right"]), str(said["read"]))

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(  # noqa: S603 -- our own program
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )


@cache
def _verifier() -> _Verifier:
    """One for the whole run: it takes seconds to import sympy."""
    verifier = _Verifier([sys.executable, "-P", str(_INSIDE)])
    atexit.register(verifier.close)
    return verifier


def check_problem(problem: str, gold: str) -> None:
    """RowError for a problem that gives its own answer away, as those of some mirrors do."""
    given = re.search(r"\banswer to this (?:question|problem) is\b", problem, re.IGNORECASE)
    if given or re.search(
        r"\banswer is:?\s*[$*\\({]*" + re.escape(gold.strip("$")) + r"(?![\w.])", problem, re.IGNORECASE
    ):
        raise RowError('"problem" holds its own answer; take a file without')


def _parse(row: Mapping[str, object], place: Place) -> Item:
    problem, gold = _PREFIX.sub("", text_field(row, "problem")), text_field(row, "answer").strip()
    check_problem(problem, gold)
    name, category = (str(row.get(field) or "") for field in ("unique_id", "subject"))
    data = {"reference": str(row.get("solution") or ""), "level": str(row.get("level") or "")}
    question = _ASK.format(problem=problem.strip())
    return Item(id=name or str(place.number), question=question, gold=gold, category=category, data=data)


def _task(name: str, help_: str, hub: str = "") -> Task:
    return Task(
        name=name,
        help=help_,
        measures="the expression at the end equals the right one",
        read=partial(read_items, parse=_parse, files=("math500.jsonl", "test.jsonl", "*.jsonl", "**/test-*.parquet")),
        score=score,
        sampling=SamplingParams(max_tokens=2048),
        licence="MIT",
        hub=hub,
    )


TASKS = (
    _task("math500", "500 problems of competition mathematics", "HuggingFaceH4/MATH-500"),
    _task("math", "all 5,000 test problems of MATH; your own file"),
)
