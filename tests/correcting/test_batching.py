"""Laws of continuous batching, on a tiny random model: works share passes, and nothing else."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from listening import Heard, asked
from tiny import EXCHANGES, exact_writer, tiny_aligner, written

from aligner.correcting.batching import Batcher
from aligner.correcting.lm_writer import LMWriter
from aligner.correcting.work import BackEnd, Order, Work, start_back_end
from aligner.decoding.decoder import Decoder, Request, Step
from aligner.decoding.generating import GeneratingDecoder
from aligner.decoding.start import Decodes
from aligner.records import Exchange, SamplingParams
from aligner.serving.engine_process import Cause

GREEDY = SamplingParams()
LONG = Exchange("How many legs has a spider? " * 6, "A spider has 8 legs. " * 8)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> LMWriter:
    return exact_writer(tiny_aligner(tmp_path_factory.mktemp("aligner"), context=512))


@dataclass(frozen=True)
class Watched:
    """A decoder whose requests and steps somebody looks at."""

    inner: Decodes
    request: Callable[[Request], object]
    step: Callable[[Step], object]

    def decode(self, requests: Iterable[Request]) -> Iterator[Step]:
        """The inner one's steps."""
        for step in self.inner.decode(Seen(iter(requests), self.request)):
            self.step(step)
            yield step


@dataclass(frozen=True)
class Seen:
    """An iterator that may go on after it was empty, as the one behind it."""

    inner: Iterator[Request]
    see: Callable[[Request], object]

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        request = next(self.inner)
        self.see(request)
        return request


def watched(
    writer: LMWriter,
    request: Callable[[Request], object] = lambda _: None,
    step: Callable[[Step], object] = lambda _: None,
) -> LMWriter:
    """The writer with such a decoder."""
    return replace(writer, start=lambda rows: Watched(writer.start(rows), request, step))


@contextmanager
def batching(writer: LMWriter, rows: int = 4) -> Iterator[BackEnd]:
    """A back end that does not break."""
    broken: list[str] = []
    back_end = start_back_end(writer, rows, broken.append)
    assert isinstance(back_end, Batcher)
    try:
        yield back_end
    finally:
        back_end.close()
        assert broken == []


def alone(writer: LMWriter, exchange: Exchange, sampling: SamplingParams = GREEDY) -> tuple[object, ...]:
    """What the writer itself writes; the model is one thread's at a time, so not while a back end works."""
    return written(writer.write([exchange], sampling)[0])


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_works_that_share_passes_are_what_they_are_alone(writer: LMWriter, rows: int) -> None:
    """Asked at once or one after the other, each gets the text and the figures that it gets alone."""
    with batching(writer, rows) as back_end:
        many = [asked(back_end, exchange)[1] for exchange in [LONG, *EXCHANGES]]
        found = [written(heard.result()) for heard in many]
        assert written(asked(back_end, EXCHANGES[0])[1].result()) == found[1]
    assert found == [alone(writer, exchange) for exchange in [LONG, *EXCHANGES]]


def test_a_model_that_cannot_be_driven_row_by_row_is_served_too(writer: LMWriter) -> None:
    """Its own `generate` gives each its text."""
    decoder = writer.start(1)
    assert isinstance(decoder, Decoder)
    plain = replace(writer, start=lambda rows: GeneratingDecoder(decoder.model.model, rows))
    with batching(plain) as back_end:
        many = [asked(back_end, exchange)[1] for exchange in EXCHANGES]
        found = [written(heard.result()) for heard in many]
    assert found == [alone(writer, exchange) for exchange in EXCHANGES]


def test_a_stop_string_and_a_limit_end_a_text(writer: LMWriter) -> None:
    """Of those that share passes, each has its own."""
    whole = writer.write([LONG], GREEDY)[0].text
    samplings = [SamplingParams(stop=(whole[20:23],)), SamplingParams(max_tokens=7), GREEDY]
    with batching(writer) as back_end:
        many = [asked(back_end, LONG, sampling)[1] for sampling in samplings]
        found = [written(heard.result()) for heard in many]
    assert found == [alone(writer, LONG, sampling) for sampling in samplings]


def test_a_work_that_does_not_fit_the_context_says_so(writer: LMWriter) -> None:
    """It ends as the writer ends it, without a piece, and those beside it go on."""
    with batching(writer) as back_end:
        many = [asked(back_end, each)[1] for each in (EXCHANGES[0], Exchange("why " * 300, "so"), EXCHANGES[1])]
        first, second, third = (heard.result() for heard in many)
    assert second.finish_reason == "context"
    assert second.usage.prompt_tokens > writer.context
    assert [written(first), written(third)] == [alone(writer, each) for each in EXCHANGES[:2]]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), IndexError("canary")])
@pytest.mark.parametrize("at", [0, 2], ids=["as-it-enters", "as-it-is-decoded"])
def test_a_work_that_breaks_a_pass_fails_alone(writer: LMWriter, error: Exception, at: int) -> None:
    """Those that were decoded with it are decoded once more, and no piece of theirs comes twice."""
    entered: dict[int, Request] = {}
    broken: set[int] = set()
    prompt = writer.prompt(LONG)

    def enter(request: Request) -> None:
        entered[len(entered)] = request
        if at == 0 and list(request.prompt) == prompt:
            broken.add(len(entered))
            raise error

    def step(_: Step) -> None:
        if at and any(list(request.prompt) == prompt for request in list(entered.values())[-at:]):
            broken.add(len(entered))
            entered.clear()
            raise error

    with batching(watched(writer, enter, step)) as back_end:
        first = [asked(back_end, exchange)[1] for exchange in EXCHANGES[:2]]
        _, bad = asked(back_end, LONG)
        rest = [asked(back_end, exchange)[1] for exchange in EXCHANGES[2:]]
        cause, message = bad.problem()
        found = [written(heard.result()) for heard in [*first, *rest]]
    assert found == [alone(writer, exchange) for exchange in EXCHANGES]
    assert cause == ("out_of_memory" if isinstance(error, torch.OutOfMemoryError) else "engine_down")
    assert "canary" not in message
    assert broken


def test_a_cancelled_work_leaves_its_row(writer: LMWriter) -> None:
    """With one row, the next work enters at once, and the cancelled one is not heard of again."""
    steps: list[int] = []
    reached, going_on = threading.Event(), threading.Event()

    def hold(step: Step) -> None:
        steps.append(step.number)
        if len(steps) == 2:
            reached.set()
            assert going_on.wait(60)

    with batching(watched(writer, step=hold), rows=1) as back_end:
        work, left = asked(back_end, LONG)
        assert reached.wait(60)
        waiting, never = asked(back_end, EXCHANGES[1])
        _, heard = asked(back_end, EXCHANGES[0])
        for each in (work, waiting):
            each.cancelled = True
            back_end.drop(each)
        going_on.set()
        found = written(heard.result())
        # The pass that went on, and the one that finds it cancelled.
        assert steps.count(0) <= 3
        assert (left.ends, never.ends, never.pieces) == (0, 0, [])
    assert found == alone(writer, EXCHANGES[0])


def test_a_gate_keeps_without_a_piece(writer: LMWriter) -> None:
    """With a confidence that is enough, one pass tells all; with any other the text is written."""
    confidence = writer.write([LONG], GREEDY)[0].confidence
    assert confidence is not None
    with batching(writer) as back_end:
        _, kept = asked(back_end, LONG, gate=confidence * 0.99)
        assert kept.ended.wait(60)
        assert kept.completion is not None
        assert (kept.pieces, kept.completion.usage.passes) == ([], 1)
        assert kept.completion.confidence == pytest.approx(confidence)
        found = written(asked(back_end, LONG, gate=confidence * 1.01)[1].result())
    assert found == alone(writer, LONG)


@contextmanager
def tokens_read(writer: LMWriter) -> Iterator[list[int]]:
    """How many tokens each pass reads while this lasts."""
    decoder, tokens = writer.start(1), list[int]()
    assert isinstance(decoder, Decoder)

    def note(_: Any, __: Any, given: Any) -> None:
        tokens.append(given["input_ids"].shape[1])

    hook = decoder.model.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield tokens
    finally:
        hook.remove()


def settled(numbers: list[int]) -> int:
    """The sum of numbers that come from another thread, when no more have come for a while."""
    before = -1
    while before != len(numbers):
        before = len(numbers)
        time.sleep(0.2)
    return sum(numbers)


def test_an_answer_that_comes_slowly_is_read_before_it_is_whole(writer: LMWriter) -> None:
    """When it is whole, its last words and its draft are left to read; the correction is the same."""
    prompt, draft = writer.prompt(LONG), len(writer.codec.draft(LONG.answer).ids)
    with batching(writer) as back_end, tokens_read(writer) as tokens:
        heard = Heard()
        work = Work(LONG.question, heard)
        back_end.open(work)
        for start in range(0, len(LONG.answer), 7):
            back_end.append(work, LONG.answer[start : start + 7])
        ahead = settled(tokens)
        assert len(prompt) - ahead < 80
        assert max(tokens) <= 128
        passes = len(tokens)
        work.ask(Order(exchange=LONG, sampling=GREEDY))
        back_end.finish(work)
        found = written(heard.result())
        assert tokens[passes] == len(prompt) - ahead + draft
    assert found == alone(writer, LONG)


def test_no_more_is_read_ahead_than_there_are_rows(writer: LMWriter) -> None:
    """Memory is for what is decoded: of many answers that come, only so many are read."""
    with batching(writer, rows=2) as back_end, tokens_read(writer) as tokens:
        works = [Work(LONG.question, Heard()) for _ in range(6)]
        for work in works:
            back_end.open(work)
        first = settled(tokens)
        for work in works:
            work.cancelled = True
            back_end.drop(work)
        work = Work(LONG.question, Heard())
        back_end.open(work)
        assert first == 2 * (settled(tokens) - first) > 0


def test_closing_ends_in_the_middle_of_a_text(writer: LMWriter) -> None:
    """What is decoded or waits is left, and the thread ends."""
    reached, going_on = threading.Event(), threading.Event()

    def hold(_: Step) -> None:
        reached.set()
        assert going_on.wait(60)

    with batching(watched(writer, step=hold), rows=1) as back_end:
        heard = [asked(back_end, LONG)[1] for _ in range(3)]
        assert reached.wait(60)
        threading.Timer(0.05, going_on.set).start()
        back_end.close()
        assert [each.ends for each in heard] == [0, 0, 0]
    assert not [thread for thread in threading.enumerate() if thread.name == "aligner-decoding"]


def test_a_thread_that_breaks_says_so(writer: LMWriter) -> None:
    """An engine that can decode no more does not stay silent."""
    told: list[str] = []
    heard = threading.Event()

    def broken(reason: str) -> None:
        told.append(reason)
        heard.set()

    class Worse(Heard):
        def failed(self, cause: Cause, message: str) -> None:
            raise KeyError("canary")

    def fail(_: Request) -> None:
        raise KeyError("canary")

    back_end = Batcher(watched(writer, fail), 1, broken)
    work = Work("q", Worse())
    work.ask(Order(exchange=EXCHANGES[0], sampling=GREEDY))
    back_end.finish(work)
    assert heard.wait(60)
    assert "KeyError" in told[0]
    assert "canary" not in told[0]
    back_end.close()
