"""Questions with choices: MMLU, MMLU-Redux, MMLU-Pro, GPQA and TruthfulQA, asked for a reason and a letter."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from aligner.data.fields import text_field
from aligner.files import RowError
from aligner.records import SamplingParams
from aligner.tasks.letters import LETTERS, letter_of
from aligner.tasks.rows import Parse, Place, number_of, read_items, texts_of
from aligner.tasks.task import Item, Score, Task, rank

_ASK = (
    "{question}\n\n{choices}\n\n"
    'Think step by step, and end with "Answer: X", where X is the letter of the right choice.'
)
_KNOWLEDGE = SamplingParams(max_tokens=1024)
_MEASURES = "the letter on which the answer settles is right"


def choice_item(name: str, question: str, choices: Sequence[str], right: int, *, category: str = "") -> Item:
    """A question with its choices, of which one is right; RowError where that cannot be."""
    if not 2 <= len(choices) <= len(LETTERS):
        raise RowError(f"has {len(choices)} choices")
    if not 0 <= right < len(choices):
        raise RowError(f"the right choice is number {right}, and there are {len(choices)}")
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    data = {"question": question, "choices": list(choices)}
    asked = _ASK.format(question=question, choices=listed)
    return Item(id=name, question=asked, gold=LETTERS[right], category=category, data=data)


def score(items: Sequence[Item], answers: Sequence[str]) -> list[Score]:
    """Right is the letter of the right choice."""
    return [_score(item, answer) for item, answer in zip(items, answers, strict=True)]


def _score(item: Item, answer: str) -> Score:
    letter = letter_of(answer, cast(Sequence[str], item.data["choices"]))
    return Score(letter == item.gold, letter)


def shuffled(item: Item, seed: int) -> Item:
    """The same question, with its choices in the order that the seed gives, whatever it was."""
    choices = cast(Sequence[str], item.data["choices"])
    right = choices[LETTERS.index(item.gold)]
    order = sorted(range(len(choices)), key=lambda i: rank(seed, item.id, choices[i]))
    moved = [choices[i] for i in order]
    made = choice_item(item.id, str(item.data["question"]), moved, moved.index(right), category=item.category)
    return replace(item, question=made.question, gold=made.gold, data={**item.data, **made.data})


def _reader(parse: Parse, *files: str) -> "partial[Iterator[Item]]":
    return partial(read_items, parse=parse, files=files)


# ---- MMLU and its relatives ------------------------------------------------------------------------------------------


def _mmlu(row: Mapping[str, object], place: Place) -> Item:
    subject = str(row.get("subject") or place.file.stem.removesuffix("_test").removesuffix("_dev"))
    choices = (
        texts_of(row["choices"], "choices")
        if "choices" in row
        else [text_field(row, f"choice{number}") for number in range(4)]
    )
    right = number_of(row.get("answer"), "answer")
    return choice_item(f"{subject}/{place.number}", text_field(row, "question"), choices, right, category=subject)


def error_type(value: object) -> str:
    """MMLU-Redux spells seven kinds of errors in 27 ways."""
    return str(value).strip().lower().replace("_", " ")


def _redux(row: Mapping[str, object], place: Place) -> Item | None:
    if error_type(row.get("error_type")) != "ok":
        return None
    subject = place.file.stem.removeprefix("mmlu_")
    try:
        choices = texts_of(ast.literal_eval(text_field(row, "choices")), "choices")
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise RowError('"choices" is not a list of texts') from error
    right = number_of(row.get("answer"), "answer")
    return choice_item(f"{subject}/{place.number}", text_field(row, "question"), choices, right, category=subject)


def _pro(row: Mapping[str, object], place: Place) -> Item:
    choices, letter = texts_of(row.get("options"), "options"), text_field(row, "answer").strip()
    if len(letter) != 1 or letter not in LETTERS:
        raise RowError('"answer" is not a letter')
    name = str(row.get("question_id", place.number))
    category = str(row.get("category", ""))
    return choice_item(name, text_field(row, "question"), choices, LETTERS.index(letter), category=category)


def _gpqa(row: Mapping[str, object], place: Place) -> Item:
    names = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    choices = [text_field(row, name).strip() for name in names]
    name, category = (str(row.get(field) or "") for field in ("Record ID", "High-level domain"))
    return choice_item(name or str(place.number), text_field(row, "Question").strip(), choices, 0, category=category)


# ---- TruthfulQA ------------------------------------------------------------------------------------------------------


def _listed(value: str) -> list[str]:
    return list(dict.fromkeys(filter(None, (part.strip() for part in value.split(";")))))


def _truthful(row: Mapping[str, object], place: Place) -> Item:
    best, category = text_field(row, "Best Answer").strip(), str(row.get("Category", ""))
    right, wrong = (_listed(text_field(row, name)) for name in ("Correct Answers", "Incorrect Answers"))
    item = choice_item(
        str(place.number), text_field(row, "Question"), [best, *(w for w in wrong if w != best)], 0, category=category
    )
    return replace(item, data={**item.data, "right": right, "wrong": wrong, "reference": best})


def _truthful_free(row: Mapping[str, object], place: Place) -> Item:
    item = _truthful(row, place)
    return replace(item, question=str(item.data["question"]), gold=str(item.data["reference"]))


_TRUTHFUL = ("TruthfulQA.csv", "*.csv")

TASKS = (
    Task(
        name="mmlu",
        help="knowledge in 57 subjects, 14,042 questions with four choices",
        measures=_MEASURES,
        read=_reader(_mmlu, "test/*_test.csv", "*_test.csv", "all/test-*.parquet"),
        score=score,
        sampling=_KNOWLEDGE,
        licence="MIT",
        hub="cais/mmlu",
    ),
    Task(
        name="mmlu-redux",
        help="the 5,330 of 5,700 questions of MMLU whose labels experts found right",
        measures=_MEASURES,
        read=_reader(_redux, "mmlu_*.csv"),
        score=score,
        sampling=_KNOWLEDGE,
        licence="CC-BY-4.0",
    ),
    Task(
        name="mmlu-pro",
        help="harder knowledge and reasoning, 12,032 questions with up to ten choices; your own file",
        measures=_MEASURES,
        read=_reader(_pro, "test.jsonl", "test.json", "data/test-*.parquet", "test-*.parquet"),
        score=score,
        sampling=SamplingParams(max_tokens=2048),
        licence="MIT",
        hub="TIGER-Lab/MMLU-Pro",
    ),
    Task(
        name="gpqa-diamond",
        help="198 questions at the level of a doctorate; your own file, which stays out of logs and reports",
        measures=_MEASURES,
        read=_reader(_gpqa, "gpqa_diamond.csv"),
        score=score,
        sampling=SamplingParams(max_tokens=2048),
        private=True,
        licence="CC-BY-4.0; its authors ask that questions not be posted",
        hub="Idavidrein/gpqa",
        arrange=shuffled,
    ),
    Task(
        name="truthfulqa",
        help="817 questions that invite falsehoods: the best answer among false ones, chosen by letter",
        measures=_MEASURES,
        read=_reader(_truthful, *_TRUTHFUL),
        score=score,
        sampling=_KNOWLEDGE,
        licence="Apache-2.0",
        arrange=shuffled,
    ),
    Task(
        name="truthfulqa-free",
        help="the same 817 questions, answered freely, for judges of truth",
        read=_reader(_truthful_free, *_TRUTHFUL),
        qualities=("honest", "helpful"),
        sampling=SamplingParams(max_tokens=512),
        licence="Apache-2.0",
    ),
)
