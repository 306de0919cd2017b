"""Code is found in answers, run with its tests, and marked."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from aligner.tasks import Score, items_of, task_named
from aligner.tasks.programs import called_in, code_in, outcomes_of, read_mbpp
from aligner.tasks.sandbox import Limits, SandboxError

GOOD = "def double(x):\n    return 2 * x"
FENCED = "```python\n{}\n```"

ANSWERS = (
    (GOOD, GOOD),
    (f"Here it is:\n\n{FENCED.format(GOOD)}\n\nIt doubles.", f"{GOOD}\n"),
    (f"{FENCED.format('def helper(): pass')}\n{FENCED.format(GOOD)}\n{FENCED.format('print(double(2))')}", f"{GOOD}\n"),
    (f"{FENCED.format('def double(x): return x')}\nNo, wait.\n{FENCED.format(GOOD)}", f"{GOOD}\n"),
    (f"```\n{GOOD}\n```", f"{GOOD}\n"),
    (f"The function is this one.\n{GOOD}\nIt doubles what it is given!", GOOD),
    (FENCED.format("double = lambda x: 2 * x"), "double = lambda x: 2 * x\n"),
    ("I cannot write code.", ""),
)


@pytest.mark.parametrize(("answer", "code"), ANSWERS)
def test_the_code_of_an_answer_is_found(answer: str, code: str) -> None:
    """The last block that defines what is tested, or the code that stands between sentences."""
    assert code_in(answer, called_in("assert set(double(2)) == 4")) == code


def written(path: Path, *rows: object) -> Path:
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return path


def marked(name: str, path: Path, answers: list[str]) -> list[Score]:
    task = task_named(name)
    assert task.score
    try:
        return task.score(items_of(task, path), answers)
    except SandboxError as error:
        pytest.skip(str(error))


MBPP = {
    "text": "Double a number.",
    "code": GOOD.replace("\n", "\r\n"),
    "test_setup_code": "",
    "test_list": ["assert double(2) == 4", "assert double(-1) == -2"],
    "challenge_test_list": [],
}


def test_answers_are_marked_by_their_tests(tmp_path: Path) -> None:
    """Right code passes, and of everything else it is told why it does not, in the order of the answers."""
    path = written(tmp_path / "mbpp.jsonl", *({**MBPP, "task_id": number} for number in (10, 11, 12, 13, 14, 510, 511)))
    answers = [
        FENCED.format(GOOD),
        "def double(x): return x",
        "def double(x): return 1 / 0",
        "No.",
        "def triple(x): pass",
    ]
    assert marked("mbpp", path, answers) == [
        Score(True, "passed"),
        Score(False, "wrong answer"),
        Score(False, "error (ZeroDivisionError)"),
        Score(False, "no code"),
        Score(False, "error (NameError)"),
    ]


def test_what_stands_around_code_is_run_with_it(tmp_path: Path) -> None:
    """MBPP's set-up runs after the solution, MBPP+'s imports before it, and HumanEval's helpers before the function."""
    setup = {"task_id": 100, "test_setup_code": "two = double(1)", "test_list": ["assert two == 2"]}
    plus = {**MBPP, "task_id": 2, "prompt": "Double.", "test_imports": ["import math"], "test": "assert double(2) == 4"}
    helped = {
        "task_id": "HumanEval/1",
        "prompt": "def helper(x):\n    return x + x\n\ndef double(x):\n    '''Twice x.'''\n",
        "entry_point": "double",
        "canonical_solution": "    return helper(x)\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
    }
    assert marked("mbpp", written(tmp_path / "a.jsonl", {**MBPP, **setup}), [GOOD])[0].right
    assert marked("mbpp-plus", written(tmp_path / "b.jsonl", plus), ["def double(x): return math.floor(2 * x)"])[
        0
    ].right
    assert marked("humaneval", written(tmp_path / "c.jsonl", helped), ["def double(x): return helper(x)"])[0].right


@pytest.mark.slow
def test_slow_references_get_the_time_that_they_need(tmp_path: Path) -> None:
    """What its reference takes long for may take long, and what never ends is stopped all the same."""
    slow = "import time\ndef double(x):\n    while time.process_time() < 3: pass\n    return 2 * x"
    path = written(tmp_path / "mbpp.jsonl", {**MBPP, "task_id": 11, "code": slow}, {**MBPP, "task_id": 12})
    endless = "def double(x):\n    while True: pass"
    pairs = list(zip(items_of(task_named("mbpp"), path), (slow, endless), strict=True))
    try:
        outcomes = outcomes_of(pairs, limits=Limits(cpu_seconds=1))
    except SandboxError as error:
        pytest.skip(str(error))
    assert [outcome.reason for outcome in outcomes] == ["", "timeout"]


@pytest.fixture
def references(real_data: Path) -> Callable[[str], list[str]]:
    """Why which reference solutions fail."""

    def run(name: str) -> list[str]:
        folder = real_data / name
        items = list(read_mbpp(folder, split=None)) if name == "mbpp" else items_of(task_named("mbpp-plus"), folder)
        outcomes = outcomes_of([(item, str(item.data["reference"])) for item in items])
        assert len(outcomes) == {"mbpp": 974, "mbppplus": 378}[name]
        return [f"{item.id}: {one.reason}" for item, one in zip(items, outcomes, strict=True) if not one.passed]

    return run


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["mbpp", "mbppplus"])
def test_all_reference_solutions_pass(references: Callable[[str], list[str]], name: str) -> None:
    """974 of MBPP and 378 of MBPP+, although some of the latter take most of a minute."""
    assert references(name) == []
