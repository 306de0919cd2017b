"""Mathematics is compared by what it means, in time that is kept."""

import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from aligner.errors import InputFileError
from aligner.tasks import Item, Score, items_of, task_named
from aligner.tasks.maths import _INSIDE, _Verifier, score

PAIRS = (
    (r"\left( 3, \frac{\pi}{2} \right)", r"The point is $\boxed{(3, \pi/2)}$.", True),
    (r"\frac{14}{3}", r"\boxed{4\frac{2}{3}}", True),
    ("p - q", r"So the sum is \boxed{-q+p}", True),
    ("9", r"\boxed{3}^2 = 9", False),
    ("3", "I have no idea.", False),
    (r"\text{Evelyn}", r"\boxed{\text{Evelyn}}", True),
)


def problem(path: Path, **fields: object) -> Path:
    row = {"problem": "What is 1+1?", "solution": "", "answer": "2", "subject": "Algebra", "unique_id": "a", **fields}
    path.write_bytes(orjson.dumps(row))
    return path


def test_answers_are_equal_when_they_mean_the_same() -> None:
    """However they are written; and time runs out for what takes too long, after which all goes on."""
    items = [Item(id="", question="", gold=gold) for gold, _, _ in PAIRS]
    assert [mark.right for mark in score(items, [answer for _, answer, _ in PAIRS])] == [right for *_, right in PAIRS]
    verifier = _Verifier([sys.executable, "-P", str(_INSIDE)])
    try:
        verifier.score([("2", r"\boxed{2}")])
        begun = time.monotonic()
        pairs = [("1", r"\boxed{" + "(" * 30 + "9^{9^{9^{9^9}}}" + ")!" * 30 + "}"), ("2", r"\boxed{2}")]
        late, fine = verifier.score(pairs, seconds=1)
        assert not late.right
        assert fine == Score(True, "2")
        assert time.monotonic() - begun < 20
    finally:
        verifier.close()


def test_the_wording_of_a_file_is_replaced(tmp_path: Path) -> None:
    """The request that mirrors put before each problem is dropped, since the task says it in its own words."""
    path = problem(tmp_path / "x.jsonl", problem=r"Return your final response within \boxed{}. What is 1+1?")
    (item,) = items_of(task_named("math500"), path)
    assert str(item.question).startswith("What is 1+1?\n")
    assert str(item.question).count("boxed") == 1


@pytest.mark.parametrize(
    "text",
    ["What is 1+1? The answer to this question is 2.", "What is 1+1? The correct answer is $2$.", "Answer is: 2"],
)
def test_problems_that_hold_their_answer_are_refused(tmp_path: Path, text: str) -> None:
    """A file that gives the answers away is no benchmark."""
    with pytest.raises(InputFileError, match=r"x.jsonl:1: .*holds its own answer"):
        items_of(task_named("math500"), problem(tmp_path / "x.jsonl", problem=text))


@pytest.mark.slow
def test_all_reference_solutions_are_right(real_data: Path) -> None:
    """math-verify finds the gold answer in 500 of 500 solutions of MATH-500."""
    items = items_of(task_named("math500"), real_data / "math500")
    assert (
        sum(mark.right for mark in score(items, [str(item.data["reference"]) for item in items])) == len(items) == 500
    )


def test_no_copy_outlives_the_process_that_made_it() -> None:
    """When there are no more lines, the copy that compares ends too."""
    program = subprocess.Popen([sys.executable, "-P", str(_INSIDE)], stdin=-1, stdout=-1, text=True)
    assert program.stdin
    assert program.stdout
    program.stdin.write('{"gold": "1", "answer": "$1$", "seconds": 30}\n')
    program.stdin.flush()
    assert program.stdout.readline() == '{"right": true, "read": "1"}\n'
    (copy,) = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    program.stdin.close()
    program.stdout.close()
    assert program.wait(30) == 0
    deadline = time.monotonic() + 30
    while Path(f"/proc/{copy}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
