"""Laws of correcting: what a writer writes replaces an answer only where nothing speaks against it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.correct import AlignedModel, Aligner
from aligner.correcting.writers import RulesWriter
from aligner.models import load_model
from aligner.models.rules import Rule, Rules
from aligner.records import ChatModel, Completion, Correction, Exchange, Message, SamplingParams, apply_edits

ASKED = (Message("user", "What is it?"),)
TEXTS = st.text()
ANSWERS = st.text().filter(str.strip)


@dataclass(frozen=True)
class Writes:
    """A writer that writes what it is told to."""

    completion: Callable[[Exchange], Completion]
    fingerprint: str = "writes"
    takes_instructions = True

    def write(
        self, exchanges: Sequence[Exchange], sampling: SamplingParams, *, batch: int = 64, doubt: bool = False
    ) -> list[Completion]:
        """One completion for each exchange."""
        return [self.completion(exchange) for exchange in exchanges]

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """Letter by letter."""
        completion = self.completion(exchange)
        yield from completion.text
        return completion


@dataclass(frozen=True)
class Answers:
    """An upstream that always gives the same completion."""

    completion: Completion

    async def complete(
        self, messages: Sequence[Message], sampling: SamplingParams = SamplingParams(), *, prediction: str | None = None
    ) -> Completion:
        """The completion."""
        return self.completion

    async def stream(
        self, messages: Sequence[Message], sampling: SamplingParams = SamplingParams(), *, prediction: str | None = None
    ) -> AsyncIterator[str]:
        """Its text."""
        yield self.completion.text


def rules_aligner(*rules: tuple[str, str]) -> Aligner:
    """An Aligner that is right by construction."""
    made = Rules(tuple(Rule(re.compile(pattern), new) for pattern, new in rules))
    return Aligner(RulesWriter(made, repr(rules)))


def collected(stream: Generator[str, None, Correction]) -> tuple[str, Correction]:
    """The pieces of a stream, added up, and what it returns."""
    text = ""
    while True:
        try:
            text += next(stream)
        except StopIteration as end:
            return text, end.value


LYON = rules_aligner(("Lyon", "Paris"))
ECHO = Aligner.from_pretrained("echo:")


@given(question=TEXTS, answer=ANSWERS)
def test_echo_changes_nothing(question: str, answer: str) -> None:
    """The perfect copy gives every answer back byte for byte, with no edits and no reason."""
    correction = ECHO.correct(question, answer)
    assert correction.text.encode() == answer.encode()
    assert (correction.changed, correction.edits, correction.kept_reason) == (False, (), None)


@given(question=TEXTS, answer=ANSWERS, written=ANSWERS)
def test_edits_make_the_correction_of_the_answer(question: str, answer: str, written: str) -> None:
    """What a writer wrote is the correction, and its edits applied to the answer give it."""
    correction = Aligner(Writes(lambda _: Completion(written))).correct(question, answer)
    assert correction.text == written
    assert apply_edits(answer, correction.edits) == written
    assert correction.changed == (written != answer)


def test_rules_are_right_by_construction() -> None:
    """An Aligner of rules makes exactly the changes of its rules."""
    correction = LYON.correct("Capital of France?", "Lyon is it. I like Lyon.")
    assert correction.text == "Paris is it. I like Paris."
    assert [answer_part(correction, edit) for edit in range(2)] == [("Lyon", "Paris")] * 2


def answer_part(correction: Correction, edit: int) -> tuple[str, str]:
    """What one edit takes away, and what it puts there."""
    start, end, text = correction.edits[edit]
    return correction.exchange.answer[start:end], text


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (Completion(""), "the correction was empty"),
        (Completion(" \n\t"), "the correction was empty"),
        (Completion("It is", "length"), "the correction was cut off"),
        (Completion("It is", "content_filter"), "the correction was cut off"),
        (Completion("", "context"), "question and answer do not fit the Aligner's context"),
        (Completion("so " * 2000), "the correction was over-long"),
    ],
)
def test_what_may_not_replace_an_answer_leaves_it(written: Completion, reason: str) -> None:
    """An empty, truncated or over-long correction keeps the original and says why, streamed or not."""
    aligner = Aligner(Writes(lambda _: written))
    for correction in (aligner.correct("q", "As it was."), collected(aligner.stream("q", "As it was."))[1]):
        assert (correction.text, correction.changed, correction.edits) == ("As it was.", False, ())
        assert correction.kept_reason == reason


def test_guards_are_a_choice() -> None:
    """An Aligner without guards takes whatever was written."""
    correction = Aligner(Writes(lambda _: Completion("", "length")), guards=()).correct("q", "a")
    assert (correction.text, correction.kept_reason) == ("", None)


@given(answers=st.lists(ANSWERS, max_size=60), batch=st.integers(1, 3))
def test_many_are_each_in_their_order(answers: list[str], batch: int) -> None:
    """Corrections of many answers are those one by one, in order, over batches and windows of any size."""
    aligner = Aligner(Writes(lambda exchange: Completion(exchange.answer[::-1] * (len(exchange.answer) % 2))))
    exchanges = [Exchange("q", answer) for answer in answers]
    assert list(aligner.correct_many(iter(exchanges), batch=batch)) == [aligner.correct("q", a) for a in answers]


def test_no_more_is_read_than_is_needed() -> None:
    """Of an endless input, at most sixteen batches are read ahead, and the writer is told the size of one."""
    windows: list[tuple[int, int]] = []

    @dataclass(frozen=True)
    class Notes(Writes):
        def write(
            self, exchanges: Sequence[Exchange], sampling: SamplingParams, *, batch: int = 64, doubt: bool = False
        ) -> list[Completion]:
            windows.append((len(exchanges), batch))
            return super().write(exchanges, sampling, batch=batch, doubt=doubt)

    read = 0

    def endless() -> Generator[Exchange, None, None]:
        nonlocal read
        while True:
            read += 1
            yield Exchange("q", "a" * (read * 7 % 32 + 1))

    corrections = Aligner(Notes(lambda exchange: Completion(exchange.answer))).correct_many(endless(), batch=2)
    assert next(corrections).exchange.answer == "a" * 8
    assert read == 32
    assert windows == [(32, 2)]


def test_batches_of_nothing_are_refused() -> None:
    """Batches without room would lose every answer."""
    for batch in (0, -1):
        with pytest.raises(ValueError, match="no windows of"):
            list(ECHO.correct_many([Exchange("q", "a")], batch=batch))


@given(answer=ANSWERS)
def test_a_stream_adds_up_to_the_correction(answer: str) -> None:
    """The pieces are the text of what `correct` gives, and in the end comes the whole."""
    for aligner in (
        ECHO,
        rules_aligner(("a", "bb")),
        Aligner(Writes(lambda exchange: Completion(exchange.answer + "!"))),
    ):
        text, correction = collected(aligner.stream("q", answer))
        assert text == correction.text
        assert correction == aligner.correct("q", answer)


def test_correcting_in_a_thread_is_correcting() -> None:
    """The async form gives the same correction."""
    assert asyncio.run(LYON.acorrect("q", "Lyon")) == LYON.correct("q", "Lyon")


def complete(model: ChatModel, messages: Sequence[Message] = ASKED) -> Completion:
    """One answer."""
    return asyncio.run(model.complete(messages))


def streamed(model: ChatModel, messages: Sequence[Message] = ASKED) -> str:
    """One answer, from its pieces."""

    async def run() -> str:
        return "".join([piece async for piece in model.stream(messages)])

    return asyncio.run(run())


def test_a_stack_applies_one_aligner_after_the_other() -> None:
    """Two Aligners stacked give what both in turn give, all at once or stack on stack, streamed or not."""
    first, second = rules_aligner(("cat", "dog")), rules_aligner(("dog", "wolf"))
    upstream = load_model("echo:")
    asked = (Message("user", "a cat and a dog"),)
    by_hand = second.correct("q", first.correct("q", "a cat and a dog").text).text
    assert by_hand == "a wolf and a wolf"
    for stack in (AlignedModel(upstream, first, second), AlignedModel(AlignedModel(upstream, first), second)):
        assert complete(stack, asked).text == by_hand
        assert streamed(stack, asked) == by_hand
    assert complete(AlignedModel(upstream, second, first), asked).text == "a dog and a wolf"


def test_a_stack_of_nothing_is_the_upstream() -> None:
    """Without Aligners, or with perfect copies, the completion is the upstream's own."""
    upstream = load_model("echo:")
    for aligners in ((), (ECHO,), (ECHO, ECHO)):
        assert complete(AlignedModel(upstream, *aligners)) == complete(upstream)


@pytest.mark.parametrize(
    "answer", [Completion("It is Lyo", "length"), Completion("Lyon", "tool_calls"), Completion(" ")]
)
def test_what_is_no_whole_answer_goes_through_untouched(answer: Completion) -> None:
    """An unfinished answer, or one without text, is not given to an Aligner."""
    never = Aligner(Writes(lambda _: pytest.fail("was asked")))
    assert complete(AlignedModel(Answers(answer), never)) is answer
    assert streamed(AlignedModel(Answers(answer), never)) == answer.text


def test_an_aligner_reads_the_whole_conversation() -> None:
    """The question that an Aligner on an upstream reads is the conversation."""
    asked = (Message("system", "Be kind."), Message("user", "Hi"))
    questions: list[object] = []

    def note(exchange: Exchange) -> Completion:
        questions.append(exchange.question)
        return Completion("Hello")

    model = AlignedModel(load_model("echo:"), Aligner(Writes(note)))
    assert complete(model, asked).text == "Hello"
    complete(model, asked[1:])
    assert questions == [asked, "Hi"]
