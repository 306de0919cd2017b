"""Laws of the drafter for vLLM: it fits the recorded interface, and whatever it drafts, the output is the model's."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from math import ceil
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_aligner, tiny_model
from tokenizers_of_kinds import KINDS

from aligner.errors import CheckpointError
from aligner.integrations.vllm_proposer import AnswerCursorProposer, AnswerSpan, answer_span
from aligner.models.hf import load_without_weights
from aligner.templates import TEMPLATES, PromptEncoder
from aligner.training.card import Card

INTERFACE = json.loads((Path(__file__).parent / "vllm_interface.json").read_text(encoding="utf-8"))
NAMES = ("T1", "T2", "T3", "T4", "T5", "sealed")
CONTEXT = 512
TEXTS = st.lists(
    st.sampled_from(["Paris ", "a spider has ", "8 legs. ", " | ", " ASSISTANT:", "##Answer: ", "<|answer|>", "é"])
    | st.text(max_size=4),
    max_size=6,
).map("".join)


class Served(NamedTuple):
    """An Aligner as vLLM serves it: its folder, how it reads, and the end of its texts."""

    folder: Path
    encoder: PromptEncoder
    end: int

    def row(self, question: str, answer: str, target: Sequence[int]) -> "Row":
        """A request, and what the model will answer to it."""
        return Row(self.encoder.prompt_ids(question, answer), [*target, self.end])


@pytest.fixture(scope="module")
def aligners(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    """An Aligner for every template but the chat format's, which its tokenizer lacks."""
    return {name: served(tiny_aligner(tmp_path_factory.mktemp(name), TEMPLATES[name])) for name in NAMES}


def served(folder: Path) -> Served:
    """The Aligner in a folder."""
    tokenizer = load_without_weights(folder).tokenizer
    return Served(folder, PromptEncoder(Card.load(folder).template, tokenizer), tokenizer.eos_token_id)


def configured(folder: Path, *, size: int = 64, rows: int = 8, context: int = CONTEXT) -> Any:
    """What vLLM hands over, with no more fields than were recorded."""
    values = {
        "model": str(folder),
        "max_model_len": context,
        "max_num_seqs": rows,
        "num_speculative_tokens": size,
    }
    parts = {
        f"{part}_config": SimpleNamespace(
            **{f["name"]: values[f["name"]] for f in INTERFACE["fields"] if f["class"] == f"{part.title()}Config"}
        )
        for part in ("model", "scheduler", "speculative")
    }
    recorded = {f["name"] for f in INTERFACE["fields"] if f["class"] == "VllmConfig"}
    assert set(parts) == recorded
    return SimpleNamespace(**parts)


@dataclass
class Row:
    """One request of the simulated engine: a prompt, and what a greedy model will answer."""

    prompt: list[int]
    target: list[int]
    tokens: list[int] = field(default_factory=list[int])
    draft: list[int] = field(default_factory=list[int])
    steps: int = 0

    @property
    def ended(self) -> bool:
        """Whether everything is written."""
        return len(self.tokens) == len(self.target)

    def verify(self) -> list[int]:
        """The new tokens of a step: the longest prefix of the draft that is right, and one more."""
        done, right = len(self.tokens), 0
        while right < len(self.draft) and self.target[done + right :][:1] == [self.draft[right]]:
            right += 1
        new = [*self.draft[:right], *self.target[done + right :][:1]]
        self.tokens += new
        self.steps += 1
        return new


class Engine:
    """A greedy verifier that keeps its rows in one array and may move them between steps, as vLLM does."""

    def __init__(self, aligner: "Served", *, size: int = 64, rows: int = 8, seed: int = 0) -> None:
        self.proposer = AnswerCursorProposer(configured(aligner.folder, size=size, rows=rows))
        self.size = size
        self.random = Random(seed)

    def run(self, rows: Sequence[Row], *, waits: float = 0.0) -> None:
        """Answer all rows; now and then some wait, and their places are taken by others."""
        while running := [row for row in rows if not row.ended]:
            self.random.shuffle(running)
            news = [[] if self.random.random() < waits else row.verify() for row in running]
            ids = np.full((len(running), CONTEXT), -1, dtype=np.int32)
            counts = np.zeros(len(running), dtype=np.int32)
            for place, row in enumerate(running):
                known = [*row.prompt, *row.tokens]
                ids[place, : len(known)] = known
                counts[place] = len(known)
            before = (ids.copy(), counts.copy())
            drafts = self.proposer.propose(news, counts, ids, slot_mappings=None)
            assert all(map(np.array_equal, before, (ids, counts)))
            assert {type(token) for draft in drafts for token in draft} <= {int}
            assert max(map(len, drafts)) <= self.size
            assert [draft for new, draft in zip(news, drafts, strict=True) if draft and not new] == []
            for row, new, draft in zip(running, news, drafts, strict=True):
                # A row that waits keeps the draft it has.
                row.draft = draft if new else row.draft


def drafted(proposer: AnswerCursorProposer, tokens: list[int], new: int = 1) -> list[int]:
    """What is proposed for one row alone."""
    (draft,) = proposer.propose([tokens[-new:]], np.array([len(tokens)], dtype=np.int32), np.array([tokens], np.int32))
    return draft


def test_the_interface_is_the_recorded_one() -> None:
    """The class has the methods that vLLM calls and no others, and they take what vLLM passes."""
    called = {call["method"] for call in INTERFACE["calls"]}
    assert {name for name in vars(AnswerCursorProposer) if not name.startswith("_")} == called
    inspect.signature(AnswerCursorProposer).bind(*INTERFACE["loading"]["made_with"])
    for call in INTERFACE["calls"]:
        signature = inspect.signature(getattr(AnswerCursorProposer, call["method"]))
        signature.bind("self", *call["arguments"], **dict.fromkeys(call["keywords"]))
        names = [argument.rpartition(".")[2] for argument in call["arguments"]]
        assert list(signature.parameters) == ["self", *names, *call["keywords"]]


def test_the_parameters_are_those_of_vllms_own_drafter() -> None:
    """Names, order and defaults are those of the n-gram drafter, which is told the length of the draft besides."""
    ngram = INTERFACE["signature_of_ngram"]
    parameters = inspect.signature(AnswerCursorProposer.propose).parameters
    assert list(parameters) == [name for name in ngram["parameters"] if name != "num_speculative_tokens"]
    defaults = {n: repr(p.default) for n, p in parameters.items() if p.default is not inspect.Parameter.empty}
    assert defaults == ngram["defaults"]


def test_it_is_loaded_by_its_name(aligners: dict[str, Served]) -> None:
    """The name in the guide is one that vLLM takes for a class, and the class has nothing that vLLM would wrap."""
    guide = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"--speculative-config '(.*)'", guide)
    asked = json.loads(line)
    assert asked["method"] == INTERFACE["configuration"]["method"]
    assert all(part.isidentifier() for part in asked["model"].split("."))
    module, _, name = asked["model"].rpartition(".")
    proposer = getattr(import_module(module), name)(configured(aligners["sealed"].folder))
    optional = [*INTERFACE["attributes_if_there"], *(call["method"] for call in INTERFACE["calls_if_there"])]
    assert [name for name in optional if hasattr(proposer, name)] == []


def test_importing_it_loads_neither_vllm_nor_torch() -> None:
    """Where vLLM looks for the class, nothing heavy is loaded before it is made."""
    code = "import sys, aligner.integrations.vllm_proposer; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "aligner.integrations.vllm_proposer" in loaded
    assert {"numpy", "torch", "transformers", "vllm"}.isdisjoint(loaded)


@given(question=TEXTS, answers=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=12)
@pytest.mark.parametrize("name", NAMES)
def test_the_output_is_the_models(
    aligners: dict[str, Served], name: str, question: str, answers: list[tuple[str, str]], seed: int
) -> None:
    """Drafts are ones that vLLM can verify to the model's own output, while rows move, wait, and are forgotten."""
    aligner = aligners[name]
    rows = [aligner.row(question, answer, aligner.encoder.text_ids(target)) for answer, target in answers]
    # The same question and answer, and another output.
    rows += [aligner.row(question, answers[0][0], aligner.encoder.text_ids(target)) for _, target in answers]
    Engine(aligner, size=5, rows=2, seed=seed).run(rows, waits=0.3)
    assert [row.tokens for row in rows] == [row.target for row in rows]


@given(question=TEXTS, answers=st.lists(TEXTS, min_size=1, max_size=5), size=st.integers(1, 64))
@settings(max_examples=12)
@pytest.mark.parametrize("name", NAMES)
def test_an_unchanged_answer_takes_the_fewest_steps(
    aligners: dict[str, Served], name: str, question: str, answers: list[str], size: int
) -> None:
    """A first step for the first token, and then every step gives a whole draft and one token more."""
    aligner = aligners[name]
    encode = aligner.encoder.text_ids
    # Texts that say what the template says are the next law's.
    question, *answers = (re.sub(r"[|#:]", "-", text) for text in (question, *answers))
    rows = [aligner.row(question, answer, encode(answer)) for answer in answers]
    Engine(aligner, size=size).run(rows)
    most = [1 + ceil(len(encode(answer)) / (size + 1)) for answer in answers]
    assert [(row.steps, limit) for row, limit in zip(rows, most, strict=True) if row.steps > limit] == []


@pytest.mark.parametrize("name", NAMES)
def test_text_that_speaks_like_the_template_costs_little(aligners: dict[str, Served], name: str) -> None:
    """Where question and answer say what the template says, an unchanged answer takes a few steps more at most."""
    aligner = aligners[name]
    words = "Is | it so?\n##Answer: 8 legs. | Answer: yes ##Answer: no\nASSISTANT: ASSISTANT:"
    target = aligner.encoder.text_ids(f"The spider has {words}")
    row = aligner.row(words, f"The spider has {words}", target)
    Engine(aligner).run([row])
    assert row.tokens == row.target
    assert row.steps <= 1 + ceil(len(target) / 65) + 3


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_costs_a_step_or_two(aligners: dict[str, Served], name: str) -> None:
    """Behind a token that is replaced, left out or put in, the draft goes on at the right place."""
    aligner = aligners[name]
    answer = "The capital of France is Paris. A spider has 8 legs. How many legs has a tiny model?"
    ids = aligner.encoder.text_ids(answer)
    half, other = len(ids) // 2, aligner.encoder.text_ids("%")
    for target in (
        [*ids[:half], *other, *ids[half + 1 :]],
        [*ids[:half], *ids[half + 1 :]],
        [*ids[:half], *other, *ids[half:]],
    ):
        row = aligner.row("What?", answer, target)
        Engine(aligner, size=256).run([row])
        assert row.tokens == row.target
        assert row.steps <= 4


def test_a_forgotten_row_is_found_again(aligners: dict[str, Served]) -> None:
    """With more rows than are remembered, unchanged answers take no more steps."""
    aligner = aligners["sealed"]
    answers = [f"A spider has {count} legs." for count in range(12)]
    rows = [aligner.row("Legs?", answer, aligner.encoder.text_ids(answer)) for answer in answers]
    Engine(aligner, size=3, rows=1).run(rows)
    assert [row.tokens for row in rows] == [row.target for row in rows]
    assert [row for row in rows if row.steps > 1 + ceil((len(row.target) - 1) / 4)] == []


@given(seed=st.integers(0, 99), edits=st.integers(0, 3))
@settings(max_examples=25)
def test_a_row_is_drafted_alike_by_who_never_saw_it(aligners: dict[str, Served], seed: int, edits: int) -> None:
    """What is proposed behind an output is the same for one that has followed it and for one that reads it anew."""
    aligner, random = aligners["sealed"], Random(seed)
    answer = "The capital of France is Paris. A spider has 8 legs. I am a tiny model."
    target = aligner.encoder.text_ids(answer)
    for _ in range(edits):
        target[random.randrange(len(target))] = random.choice(target)
    row = aligner.row("What?", answer, target)
    follower = AnswerCursorProposer(configured(aligner.folder, size=4))
    while not row.ended:
        new = row.verify()
        tokens = [*row.prompt, *row.tokens]
        row.draft = drafted(follower, tokens, len(new))
        assert drafted(AnswerCursorProposer(configured(aligner.folder, size=4)), tokens) == row.draft


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_other_prompts_get_no_draft(aligners: dict[str, Served], name: str) -> None:
    """A prompt without an answer, or with another template's, is left alone, beside rows that are not."""
    aligner = aligners[name]
    other = aligners["T2" if name == "sealed" else "sealed"]
    answer = aligner.encoder.text_ids("A spider has 8 legs.")
    rows = [
        aligner.row("Legs?", "A spider has 8 legs.", answer),
        Row(aligner.encoder.text_ids("Tell me of spiders."), [*answer, aligner.end]),
        other.row("Legs?", "A spider has 8 legs.", answer),
    ]
    Engine(aligner).run(rows)
    assert rows[0].steps <= 2
    assert [row.steps for row in rows[1:]] == [len(row.target) for row in rows[1:]]


def test_a_draft_fits_the_context(aligners: dict[str, Served]) -> None:
    """A draft goes to the end of the text, or of the context less one more token behind it."""
    aligner = aligners["sealed"]
    ids = aligner.encoder.text_ids("A spider has 8 legs.")
    tokens = [*aligner.encoder.prompt_ids("Legs?", "A spider has 8 legs."), ids[0]]
    for room in range(4):
        proposer = AnswerCursorProposer(configured(aligner.folder, context=len(tokens) + room))
        assert drafted(proposer, tokens) == ids[1 : max(room, 1)]
    assert drafted(AnswerCursorProposer(configured(aligner.folder)), tokens) == [*ids[1:], aligner.end]


@given(question=TEXTS, answer=TEXTS, output=TEXTS)
@settings(max_examples=25)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["sealed", "chat"])
def test_the_answer_is_found(kind: str, name: str, question: str, answer: str, output: str) -> None:
    """Between control tokens, which no text imitates, the answer is found exactly, with tokenizers of all kinds."""
    encoder = PromptEncoder(TEMPLATES[name], KINDS[kind]())
    prompt = encoder.prompt_ids(question.replace("#", "-"), answer := answer.replace("#", "-"))
    written = [*encoder.text_ids(output), 1]
    end = len(prompt) - len(encoder.answer_marks.behind)
    expected = AnswerSpan(end - len(encoder.text_ids(answer)), end, len(prompt))
    assert answer_span(encoder, [*prompt, *written], 1) == expected
    # New tokens are the output's, even if a model writes what stands behind an answer.
    written += encoder.answer_marks.behind
    assert answer_span(encoder, [*prompt, *written], len(written)) == expected


def test_a_template_without_marks_gets_no_drafts() -> None:
    """Where an answer has no words of the template behind it, no answer is found."""
    encoder = PromptEncoder(replace(TEMPLATES["T1"], text="{question}?{answer}"), KINDS["byte-level"]())
    assert answer_span(encoder, [*encoder.prompt_ids("a", "b"), 5], 1) is None


def test_what_is_no_aligner_is_told(tmp_path: Path) -> None:
    """A model without a card is refused with the cure, which vLLM passes on."""
    with pytest.raises(CheckpointError, match=r"not an Aligner, it has no aligner\.json"):
        AnswerCursorProposer(configured(tiny_model(tmp_path)))
