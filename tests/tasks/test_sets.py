"""Benchmarks are read as they were published, traps included, and bad rows are told by file and line."""

import csv
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.errors import InputFileError, MisuseError
from aligner.files import write_rows
from aligner.tasks import TASKS, Item, Task, answers_of, items_of, refuses, task_named
from aligner.tasks.choices import choice_item, error_type, shuffled
from aligner.tasks.last_number import number_in
from aligner.tasks.letters import LETTERS, letter_of
from aligner.tasks.programs import code_in
from aligner.tasks.rows import read_items
from aligner.tasks.task import rank

SIZES = {
    "gsm8k": ("gsm8k", 1319, 1),
    "math500": ("math500", 500, 7),
    "mbpp": ("mbpp", 500, 1),
    "mbpp-plus": ("mbppplus", 378, 1),
    "mmlu": ("mmlu", 14042, 57),
    "mmlu-redux": ("mmlu_redux", 5330, 57),
    "truthfulqa": ("truthfulqa", 817, 38),
    "truthfulqa-free": ("truthfulqa", 817, 38),
    "beavertails": ("beavertails_eval", 700, 14),
    "harmfulqa": ("red_instruct", 1960, 98),
    "catqa": ("red_instruct", 550, 55),
    "adversarialqa": ("red_instruct", 500, 1),
    "xstest": ("xstest", 450, 18),
    "xstest-safe": ("xstest", 250, 10),
    "empathy": ("empathetic", 2547, 32),
    "alpaca-eval": ("alpaca_eval", 805, 5),
}


@pytest.mark.parametrize("name", SIZES)
def test_sets_have_their_published_sizes(real_data: Path, name: str) -> None:
    """Every item is there, with an id of its own, and so is every category."""
    folder, size, categories = SIZES[name]
    items = items_of(task_named(name), real_data / folder)
    assert (len(items), len({item.category for item in items})) == (size, categories)
    assert all(str(item.question).strip() for item in items)


def test_recorded_answers_are_as_right_as_they_were(real_data: Path) -> None:
    """286 and 458 of 1,319, and question by question what those who recorded them say."""
    task = task_named("gsm8k")
    items = items_of(task, real_data / "gsm8k")
    rows = [orjson.loads(line) for line in (real_data / "gsm8k" / "recorded_answers.jsonl").read_bytes().splitlines()]
    for model, right in (("6b_finetuning", 286), ("175b_finetuning", 458)):
        answers = answers_of("gsm8k", real_data / "gsm8k", model=model)
        assert task.score
        scores = task.score(items, [answers[item.id] for item in items])
        assert sum(score.right for score in scores) == right
        assert [score.right for score in scores] == [row[model]["is_correct"] for row in rows]
    gold = [str(item.data["reference"]) for item in items]
    assert all(score.right for score in task.score(items, gold))


def test_refusal_rules_agree_with_people(real_data: Path) -> None:
    """On XSTest's labelled answers: 43 of 49 refusals are seen, and 16 of 374 full answers are called refusals."""
    items = {item.id: item for item in items_of(task_named("xstest"), real_data / "xstest")}
    answers = answers_of("xstest", real_data / "xstest")
    assert answers.keys() == items.keys()
    with (real_data / "xstest" / "xstest_v2_completions_mistralinstruct.csv").open(encoding="utf-8") as file:
        labels = {row["id"].removeprefix("v2-"): row["final_label"] for row in csv.DictReader(file)}
    found = Counter((labels[name], refuses(answer)) for name, answer in answers.items())
    assert (found["2_full_refusal", True], found["2_full_refusal", False]) == (43, 6)
    assert (found["1_full_compliance", True], found["1_full_compliance", False]) == (16, 358)
    assert found["3_partial_refusal", True] + found["3_partial_refusal", False] == 27


def test_redux_spells_errors_in_many_ways(real_data: Path) -> None:
    """27 spellings of seven kinds, of which the right ones are kept."""
    seen: list[str] = []

    def note(row: Mapping[str, object], _: object) -> None:
        seen.append(str(row["error_type"]))

    assert not list(read_items(real_data / "mmlu_redux", note, files=("*.csv",)))
    assert len(seen) == 5700
    assert len(set(seen)) == 27
    kinds = Counter(map(error_type, seen))
    assert sorted(kinds.values(), reverse=True) == [5330, 132, 107, 39, 35, 32, 25]
    assert kinds["ok"] == 5330


def test_references_of_instructions_are_the_baseline(real_data: Path) -> None:
    """AlpacaEval's items bring the baseline's answers, and other recorded answers stand in the same order."""
    items = items_of(task_named("alpaca-eval"), real_data / "alpaca_eval")
    outputs = real_data / "alpaca_eval" / "model_outputs"
    assert [item.data["reference"] for item in items] == list(
        answers_of("alpaca-eval", outputs / "gpt4_1106_preview.json").values()
    )
    assert len(answers_of("alpaca-eval", outputs / "alpaca-7b.json")) == 805


# ---- bad files -------------------------------------------------------------------------------------------------------

BAD = (
    (
        "gsm8k",
        "x.jsonl",
        '{"question": "q", "answer": "#### 1"}\n\n{"question": "q", "answer": "1"}',
        ':3: "answer" does not',
    ),
    ("gsm8k", "x.jsonl", '{"question": "q", "answer": "#### one"}', ":1: "),
    ("gsm8k", "x.jsonl", '{"question": "", "answer": "#### 1"}', ':1: "question" is empty'),
    ("gsm8k", "x.jsonl", '{"question": ', ":1: invalid JSON"),
    (
        "mmlu",
        "x.csv",
        "question,choice0,choice1,choice2,choice3,answer\nq,a,b,c,d,4",
        ":2: the right choice is number 4",
    ),
    ("mmlu", "x.csv", 'question,choice0,choice1,choice2,choice3,answer\n"q\nq",a,b,c,d,0\nq,a,b', ":4: has 3 cells"),
    ("mmlu", "x.csv", 'question,choice0,choice1,choice2,choice3,answer\n"q,a', ":2: invalid CSV"),
    ("mmlu-redux", "x.csv", 'question;choices;answer;error_type\nq;"f()";0;ok', ':2: "choices" is not a list'),
    (
        "mmlu-pro",
        "x.jsonl",
        '{"question": "q", "options": ["a", "b"], "answer": "C"}',
        ":1: the right choice is number 2",
    ),
    ("gpqa-diamond", "x.csv", "Question,Correct Answer\nq,a", ':2: no "Incorrect Answer 1"'),
    ("truthfulqa", "x.csv", "Question,Best Answer,Correct Answers,Incorrect Answers\nq,a,a,", ":2: "),
    ("mbpp", "x.jsonl", '{"task_id": 11, "text": "t", "code": "c", "test_list": []}', ':1: "test_list" is empty'),
    ("mbpp-plus", "x.jsonl", '{"task_id": 11, "base_input": []}', ":1: no .*OriginFmt"),
    ("humaneval", "x.jsonl", '{"task_id": "a", "prompt": "p", "entry_point": "a b"}', ":1: "),
    ("beavertails", "x.json", '[{"prompt": "p", "category": "c"},\n{"prompt": 3}]', ':2: "prompt" is a number'),
    ("harmfulqa", "x.json", '{"a": {"b": ["p",\n 17]}}', ":2: .*a: b, prompt 1"),
    ("harmfulqa", "x.json", '{"a": 3}', "a is neither"),
    ("catqa", "x.json", '{"a":\n', ":2: invalid JSON"),
    ("xstest", "x.csv", "id,type,prompt\none,homonyms,p", ':2: "id" is not a whole number'),
    ("empathy", "x.csv", "label,content\n33,p", ":2: .*from 1 to 32"),
    ("mbpp-plus", "x.jsonl", "", None),
)


@pytest.mark.parametrize(("name", "file", "text", "problem"), BAD)
def test_bad_rows_are_told_by_file_and_line(
    tmp_path: Path, name: str, file: str, text: str, problem: str | None
) -> None:
    """One line says which file, which line, and what is wrong there."""
    path = tmp_path / file
    path.write_text(text, encoding="utf-8")
    if problem is None:
        assert items_of(task_named(name), path) == []
        return
    with pytest.raises(InputFileError, match=problem) as caught:
        items_of(task_named(name), path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_of_users_are_read(tmp_path: Path) -> None:
    """GPQA's four choices come in the order of the seed, MMLU-Pro's up to ten, and hub folders hold Parquet."""
    gpqa = tmp_path / "gpqa_diamond.csv"
    header = "Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3"
    gpqa.write_text(f"{header}\nrec1,Why?,right,wrong,false,bad\n")
    asked = [items_of(task_named("gpqa-diamond"), gpqa, seed=seed)[0] for seed in range(20)]
    assert len({item.gold for item in asked}) == 4
    assert all(f"{item.gold}. right\n" in f"{item.question}" for item in asked)
    pro = tmp_path / "test.jsonl"
    pro.write_bytes(orjson.dumps({"question_id": 7, "question": "q", "options": list("abcdefghij"), "answer": "J"}))
    (item,) = items_of(task_named("mmlu-pro"), tmp_path)
    assert (item.id, item.gold) == ("7", "J")
    assert "\nJ. j\n" in str(item.question)
    (tmp_path / "all").mkdir()
    row = {"question": "q", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 2}
    write_rows(tmp_path / "all" / "test-00000-of-00001.parquet", [row])
    (item,) = items_of(task_named("mmlu"), tmp_path)
    assert (item.category, item.gold) == ("anatomy", "C")


def test_what_is_not_there_is_misuse(tmp_path: Path) -> None:
    """A path that leads nowhere, a folder without the set, a name that is none, and a sample that is too large."""
    task = task_named("gsm8k")
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(MisuseError, match=str(path)):
            items_of(task, path)
    with pytest.raises(MisuseError, match='did you mean "gsm8k"'):
        task_named("gsm8")
    (tmp_path / "test.jsonl").write_text('{"question": "q", "answer": "#### 1"}')
    with pytest.raises(MisuseError, match="holds 1 items"):
        items_of(task, tmp_path, sample=2)


# ---- laws ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(), unique=True, min_size=1), st.data())
def test_samples_do_not_depend_on_the_order_of_a_file(names: list[str], data: st.DataObject) -> None:
    """The same seed draws the same items from any order, and a smaller sample is a part of a larger one."""

    def task(order: list[str]) -> Task:
        return Task(name="t", help="", licence="", read=lambda _: (Item(id=name, question=name) for name in order))

    size, seed = data.draw(st.integers(1, len(names))), data.draw(st.integers())
    other = data.draw(st.permutations(names))
    drawn = {item.id for item in items_of(task(names), "", sample=size, seed=seed)}
    assert len(drawn) == size
    assert drawn == {item.id for item in items_of(task(other), "", sample=size, seed=seed)}
    assert drawn <= {item.id for item in items_of(task(names), "", sample=min(size + 1, len(names)), seed=seed)}


@given(st.lists(st.text(), min_size=2, max_size=10, unique=True), st.integers(), st.data())
def test_choices_keep_their_right_one_in_any_order(choices: list[str], seed: int, data: st.DataObject) -> None:
    """Shuffled by a seed, the letter still stands before the right choice, wherever it stood first."""
    right = data.draw(st.integers(0, len(choices) - 1))
    moved = shuffled(choice_item("x", "q", choices, right), seed)
    listed = moved.data["choices"]
    assert isinstance(listed, list)
    assert listed[LETTERS.index(moved.gold)] == choices[right]
    again = shuffled(choice_item("x", "q", choices[::-1], len(choices) - 1 - right), seed)
    assert (again.question, again.gold) == (moved.question, moved.gold)


@given(st.text(), st.integers(-(10**9), 10**9))
def test_the_marked_number_is_read(text: str, number: int) -> None:
    """Whatever is said before the line that the question asks for, its number counts."""
    assert number_in(f"{text}\n#### {number:,}").replace(",", "") == str(number)


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("She has 3 - 1 = <<3-1=2>>2 eggs.\nA: 2", "2"),
        ("#### $1,234.50. I hope that helps, 24/7!", "1234.50"),
        (r"The answer is \$18 (of 20).", "18"),
        (r"so \boxed{42} it is, and not 7", "42"),
        ("It costs 5 dollars, and then 7.", "7"),
        ("none", ""),
    ],
)
def test_the_number_that_is_settled_on_is_read(answer: str, number: str) -> None:
    """The one that is marked as the result, or else the last."""
    assert number_in(answer) == number


HOSTILE = (
    "the answer is ",
    "answer: ",
    "####",
    "#### ",
    "\\boxed{",
    "(",
    "*",
    "\n",
    "```\n",
    "def f():\n",
    "1,",
    "$-",
    "it is ",
    " ",
)


@pytest.mark.parametrize("before", HOSTILE)
def test_hostile_answers_are_read_in_no_time(before: str) -> None:
    """Whatever is said thousands of times over, with or without room before the end, is read in less than a second."""
    begun = time.process_time()
    for text in (before * 3_000, before + " " * 9_000, before + "\n" * 9_000):
        letter_of(text, ["one", "two", "three"])
        number_in(text)
        refuses(text)
        code_in(text, ["f"])
    assert time.process_time() - begun < 1


def test_private_and_non_commercial_sets_say_so() -> None:
    """GPQA's questions are private, and what is for testing only has that in its licence."""
    assert [task.name for task in TASKS.values() if task.private] == ["gpqa-diamond"]
    testing_only = {task.name for task in TASKS.values() if "for testing only" in task.licence}
    assert testing_only == {"beavertails", "empathy", "alpaca-eval"}
    assert all(task.help and task.licence and bool(task.score) == bool(task.measures) for task in TASKS.values())
    assert rank(0, "a", "b") != rank(0, "a b")
