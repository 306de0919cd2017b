"""Laws of works in threads: each gets its own text, and a slow or broken one is nobody else's."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from listening import Heard, asked

from aligner.correcting.work import BackEnd, Work, WriterThreads, start_back_end, why
from aligner.correcting.writers import Writer, load_writer
from aligner.errors import ModelError
from aligner.records import Completion, Exchange, SamplingParams


@dataclass(frozen=True)
class Words:
    """A writer that gives a copy word by word, and is told before each word."""

    before: Callable[[str], object]
    fingerprint: str = "words"
    takes_instructions = False

    def write(
        self, exchanges: Sequence[Exchange], sampling: SamplingParams, *, batch: int = 64, doubt: bool = False
    ) -> list[Completion]:
        """A copy of each answer."""
        return [Completion(exchange.answer) for exchange in exchanges]

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """A copy of the answer."""
        for word in exchange.answer.split(" "):
            self.before(word)
            yield word + " "
        return Completion(exchange.answer + " ")


@contextmanager
def threads(writer: Writer, count: int) -> Iterator[BackEnd]:
    """A back end of so many threads."""
    broken: list[str] = []
    back_end = start_back_end(writer, count, broken.append)
    assert isinstance(back_end, WriterThreads)
    try:
        yield back_end
    finally:
        back_end.close()
        assert broken == []


def test_every_work_gets_its_own_text() -> None:
    """More works than threads, each with another answer: nothing is lost, and nothing crosses."""
    with threads(load_writer("echo:", "cpu"), 3) as back_end:
        heard = [asked(back_end, Exchange("q", f"canary {number}"))[1] for number in range(200)]
        assert [each.result().text for each in heard] == [f"canary {number}" for number in range(200)]


def test_a_slow_work_holds_up_no_other() -> None:
    """While one waits, others of the same writer are done."""
    going_on = threading.Event()
    with threads(Words(lambda word: going_on.wait(60) if word == "slow" else None), 2) as back_end:
        _, slow = asked(back_end, Exchange("q", "a slow one"))
        for number in range(20):
            assert asked(back_end, Exchange("q", f"a quick {number}"))[1].result().text == f"a quick {number} "
        assert slow.pieces == ["a "]
        going_on.set()
        assert slow.result().text == "a slow one "


def test_a_broken_work_fails_alone() -> None:
    """Its listener hears of it once, without a word of its text, and its thread does the next one."""

    def check(word: str) -> None:
        if word == "canary":
            raise KeyError(word)

    with threads(Words(check), 1) as back_end:
        _, broken = asked(back_end, Exchange("q", "a canary"))
        _, whole = asked(back_end, Exchange("q", "no bird"))
        cause, message = broken.problem()
        assert cause == "engine_down"
        assert "KeyError at test_work.py" in message
        assert "canary" not in message
        assert whole.result().text == "no bird "


def test_a_cancelled_work_is_left_at_the_next_piece() -> None:
    """Nobody hears of it any more, whether it waited or had begun."""
    reached, going_on = threading.Event(), threading.Event()

    def wait(word: str) -> None:
        if word == "here":
            reached.set()
            going_on.wait(60)
        assert word != "there"

    with threads(Words(wait), 1) as back_end:
        begun, told = asked(back_end, Exchange("q", "from here to there"))
        waiting, silent = asked(back_end, Exchange("q", "there"))
        assert reached.wait(60)
        for work in (begun, waiting):
            work.cancelled = True
            back_end.drop(work)
        going_on.set()
        assert asked(back_end, Exchange("q", "next"))[1].result().text == "next "
        assert told.pieces == ["from ", "here "]
        assert (told.ends, silent.ends, silent.pieces) == (0, 0, [])


def test_the_time_of_a_work_is_in_its_four_parts() -> None:
    """In the queue, until the first piece, nothing that a draft would take, and from there on; none is negative."""
    going_on = threading.Event()
    with threads(Words(lambda word: going_on.wait(60) if word == "slow" else None), 1) as back_end:
        _, first = asked(back_end, Exchange("q", "slow"))
        _, second = asked(back_end, Exchange("q", "then slow"))
        threading.Timer(0.1, going_on.set).start()
        first.result()
        second.result()
    for heard in (first, second):
        assert heard.seconds.keys() == {"queue", "read", "verify", "edit"}
        assert min(heard.seconds.values()) >= 0
    assert first.seconds["read"] > 0.05
    assert second.seconds["queue"] > 0.05


def test_a_work_begins_with_its_order() -> None:
    """Before the answer is whole there is nothing to do."""
    with pytest.raises(ValueError, match="before its answer is known"):
        Work("q", Heard()).begin()


@pytest.mark.parametrize(
    ("error", "cause", "line"),
    [
        (ModelError("http://x/v1: status 400: your prompt was canary"), "engine_down", "http://x/v1: status 400"),
        (ModelError("http://x/v1: cannot connect"), "engine_down", "http://x/v1: cannot connect"),
        (MemoryError(), "out_of_memory", "the memory does not suffice for this correction"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate"),
            "out_of_memory",
            "the memory does not suffice for this correction",
        ),
        (ValueError("canary"), "engine_down", "the correction failed: ValueError"),
    ],
)
def test_a_failure_says_why_without_its_data(error: Exception, cause: str, line: str) -> None:
    """One line for each kind of error, which quotes neither a prompt nor an answer."""
    assert why(error) == (cause, line)


def test_a_server_that_is_too_slow_is_a_time_out() -> None:
    """An error that another one caused by taking too long."""
    slow = ModelError("http://x/v1: nothing came for 120 s")
    slow.__cause__ = TimeoutError()
    assert why(slow)[0] == "timeout"
