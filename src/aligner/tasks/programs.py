"""MBPP, MBPP+ and HumanEval: code that models write is run with its tests, in a sandbox."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from aligner.data.fields import text_field
from aligner.files import RowError
from aligner.records import SamplingParams
from aligner.tasks.rows import Place, number_of, read_items, texts_of
from aligner.tasks.sandbox import Limits, Outcome, Program, run_programs
from aligner.tasks.task import Item, Score, Task

_ASK = (
    "Write a Python function for this task:\n\n{text}\n\nIt should pass these tests:\n\n```python\n{tests}\n```\n\n"
    "Give the whole code in one block of ```python."
)
_COMPLETE = (
    "Complete this Python function:\n\n```python\n{prompt}```\n\nGive the whole function, with its imports, in one "
    "block of ```python."
)
_TEST_IDS = range(11, 511)
"""of MBPP: its test split"""
_COMMON = Limits()
_SLOW = Limits(cpu_seconds=150.0, wall_seconds=600.0)
_TIMES_REFERENCE = 3.0
_MEASURES = "the tests pass, run in a sandbox"
_FENCE = re.compile(
    r"^[ \t]*```[ \t]*(?:python3?|py)?[ \t]*\r?\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL | re.IGNORECASE
)


def score(items: Sequence[Item], answers: Sequence[str]) -> list[Score]:
    """Right is code whose tests pass; SandboxError where it cannot be run without danger.

    Code that takes longer than the common limit gets three times what the reference solution needs here.
    """
    codes = [code_in(answer, called_in(_tests(item))) for item, answer in zip(items, answers, strict=True)]
    outcomes = outcomes_of([(item, code) for item, code in zip(items, codes, strict=True) if code])
    left = iter(outcomes)
    return [_score(next(left)) if code else Score(False, "no code") for code in codes]  # noqa: FBT003 -- named in Score


def outcomes_of(pairs: Sequence[tuple[Item, str]], *, limits: Limits = _COMMON) -> list[Outcome]:
    """What becomes of pieces of code when they are run with the tests of their items."""
    outcomes = run_programs([Program(program_of(item, code), limits) for item, code in pairs])
    late = [number for number, outcome in enumerate(outcomes) if outcome.reason == "timeout"]
    references = run_programs([Program(_reference(pairs[number][0]), _SLOW) for number in late]) if late else []
    slow = [
        (number, _longer(reference.seconds))
        for number, reference in zip(late, references, strict=True)
        if reference.passed and reference.seconds * _TIMES_REFERENCE > limits.cpu_seconds
    ]
    again = run_programs([Program(program_of(*pairs[number]), longer) for number, longer in slow]) if slow else []
    for (number, _), outcome in zip(slow, again, strict=True):
        outcomes[number] = outcome
    return outcomes


def program_of(item: Item, code: str) -> str:
    """Code with what is run before and after it."""
    return "\n".join([str(item.data.get("before", "")), code.replace("\r\n", "\n"), _tests(item)])


def code_in(answer: str, names: Iterable[str]) -> str:
    """The code that an answer gives: its last block that defines what is tested, or else the first that can be read.

    Of an answer without blocks, what can be read as code from its first line of code on; "" where there is none.
    """
    wanted = set(names)
    blocks = [block for block in _FENCE.findall(answer) if block.strip()] or [_bare(answer)]
    read = [(block, _defined(block)) for block in blocks]
    defining = [block for block, defined in read if defined is not None and wanted & defined]
    readable = [block for block, defined in read if defined is not None]
    return next((found[place] for found, place in ((defining, -1), (readable, 0), (blocks, 0)) if found), "")


def called_in(tests: str) -> set[str]:
    """The names that tests call."""
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


def _score(outcome: Outcome) -> Score:
    kind = re.match(r"\w{1,40}", outcome.said)
    detail = f" ({kind[0]})" if kind and outcome.reason == "error" else ""
    return Score(outcome.passed, outcome.reason + detail or "passed")


def _longer(seconds: float) -> Limits:
    return Limits(cpu_seconds=seconds * _TIMES_REFERENCE, wall_seconds=4 * seconds * _TIMES_REFERENCE)


def _tests(item: Item) -> str:
    return str(item.data["tests"])


def _reference(item: Item) -> str:
    return program_of(item, str(item.data["reference"]))


def _defined(code: str) -> set[str] | None:
    """The names that code defines, or nothing where it is no Python."""
    try:
        tree = ast.parse(code.replace("\r\n", "\n"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    assigned = (node.targets for node in tree.body if isinstance(node, ast.Assign))
    return names | {target.id for targets in assigned for target in targets if isinstance(target, ast.Name)}


def _bare(answer: str) -> str:
    """The longest readable code that starts at the first line that looks like code."""
    lines = answer.splitlines()
    starts = [
        i for i, line in enumerate(lines) if re.match(r"(?:async )?def |class |import |from \w[\w.]* import |@", line)
    ]
    if not starts:
        return ""
    code = lines[starts[0] :]
    while code and (wrong := _wrong_line("\n".join(code))):
        code = code[: min(wrong, len(code)) - 1]
    return "\n".join(code)


def _wrong_line(code: str) -> int:
    """The line at which code stops to be Python, or 0 where it is all readable."""
    try:
        ast.parse(code)
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError):
        return 1
    return 0


# ---- readers ---------------------------------------------------------------------------------------------------------


def _mbpp(row: Mapping[str, object], _: Place, *, split: range | None) -> Item | None:
    number = number_of(row.get("task_id"), "task_id")
    if split is not None and number not in split:
        return None
    tests = texts_of(row.get("test_list"), "test_list")
    if not tests:
        raise RowError('"test_list" is empty')
    # The set-up of two tasks uses classes of the solution, so it runs after it.
    setup = str(row.get("test_setup_code") or "")
    data = {"tests": "\n".join([setup, *tests]), "reference": text_field(row, "code")}
    question = _ASK.format(text=text_field(row, "text").strip(), tests="\n".join(tests))
    return Item(id=str(number), question=question, data=data)


def _mbpp_plus(row: Mapping[str, object], _: Place) -> Item:
    if "test" not in row:
        raise RowError('no "test": the file to take is MbppPlus-OriginFmt.jsonl')
    number = number_of(row.get("task_id"), "task_id")
    shown = texts_of(row.get("test_list"), "test_list")
    data = {
        "before": "\n".join(texts_of(row.get("test_imports"), "test_imports")),
        "tests": text_field(row, "test"),
        "reference": text_field(row, "code"),
    }
    question = _ASK.format(text=text_field(row, "prompt").strip(), tests="\n".join(shown))
    return Item(id=str(number), question=question, data=data)


def _human_eval(row: Mapping[str, object], _: Place) -> Item:
    prompt, entry = text_field(row, "prompt"), text_field(row, "entry_point").strip()
    if not entry.isidentifier():
        raise RowError('"entry_point" is no name')
    # An answer may repeat the function without the helpers that stand before it.
    before = prompt.partition(f"def {entry}")[0]
    data = {
        "before": before,
        "tests": f"{text_field(row, 'test')}\ncheck({entry})",
        "reference": prompt + str(row.get("canonical_solution") or ""),
    }
    return Item(id=text_field(row, "task_id"), question=_COMPLETE.format(prompt=prompt), data=data)


def read_mbpp(path: Path, *, split: range | None = _TEST_IDS) -> Iterator[Item]:
    """The tasks of MBPP's test split, or of another range of ids, or all of them."""
    return read_items(path, partial(_mbpp, split=split), files=("mbpp.jsonl", "full/*.parquet"))


_SAMPLING = SamplingParams(max_tokens=1024)

TASKS = (
    Task(
        name="mbpp",
        help="500 small Python functions (ids 11 to 510) with three tests each; runs code of models in a sandbox",
        measures=_MEASURES,
        read=cast("partial[Iterator[Item]]", read_mbpp),
        score=score,
        sampling=_SAMPLING,
        licence="CC-BY-4.0",
        hub="google-research-datasets/mbpp",
    ),
    Task(
        name="mbpp-plus",
        help="378 tasks of MBPP with many more tests; runs code of models in a sandbox",
        measures=_MEASURES,
        read=partial(read_items, parse=_mbpp_plus, files=("MbppPlus-OriginFmt.jsonl*", "data/test-*.parquet")),
        score=score,
        sampling=_SAMPLING,
        licence="Apache-2.0",
        hub="evalplus/mbppplus",
    ),
    Task(
        name="humaneval",
        help="164 Python functions to complete, from your own file; runs code of models in a sandbox",
        measures=_MEASURES,
        read=partial(read_items, parse=_human_eval, files=("HumanEval.jsonl*", "openai_humaneval/test-*.parquet")),
        score=score,
        sampling=_SAMPLING,
        licence="MIT",
        hub="openai/openai_humaneval",
    ),
)
