"""Laws of many calls at once and of progress."""

import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.jobs import map_ordered, progress

# ---- map_ordered -----------------------------------------------------------------------------------------------------


async def take_turns(turns: int) -> int:
    """Let the others run so many times."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return turns


async def endless() -> AsyncIterator[int]:
    for number in itertools.count():
        yield number


def nothing_is_left() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


@given(st.lists(st.integers(0, 20)), st.integers(1, 5))
def test_results_come_in_the_order_of_the_items(turns: list[int], limit: int) -> None:
    """Whatever each call takes, the results are those of a plain loop, and at most `limit` calls run at a time."""
    running, most = 0, 0

    async def call(turns: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await take_turns(turns)
        running -= 1
        return turns

    async def run() -> list[int]:
        results = [result async for result in map_ordered(call, turns, limit=limit)]
        assert nothing_is_left()
        return results

    assert asyncio.run(run()) == turns
    assert most <= limit


def test_all_places_are_used() -> None:
    """As many calls run at a time as may."""

    async def run() -> list[int]:
        everybody = asyncio.Barrier(4)

        async def call(number: int) -> int:
            await everybody.wait()
            return number

        async with asyncio.timeout(10):
            return [result async for result in map_ordered(call, range(8), limit=4)]

    assert asyncio.run(run()) == [*range(8)]


@pytest.mark.parametrize("slow_first", [False, True])
def test_an_endless_input_is_read_only_as_results_are_taken(*, slow_first: bool) -> None:
    """The distance between what is read and what is handed on is bounded, also behind one slow call."""
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for read in itertools.count():
            yield 2000 if slow_first and read == 0 else 0

    async def run() -> int:
        ahead, taken = 0, 0
        async with aclosing(map_ordered(take_turns, items(), limit=5)) as results:
            async for _ in results:
                taken += 1
                await take_turns(10)
                ahead = max(ahead, read - taken)
                if taken == 300:
                    return ahead
        raise AssertionError("the input is endless")

    assert asyncio.run(run()) <= 20


def test_results_are_handed_on_while_the_input_waits() -> None:
    """An input that pauses does not hold up what is done."""

    async def run() -> list[int]:
        first_came = asyncio.Event()

        async def items() -> AsyncIterator[int]:
            yield 1
            await first_came.wait()
            yield 2

        results: list[int] = []
        async for result in map_ordered(take_turns, items(), limit=3):
            results.append(result)
            first_came.set()
        return results

    assert asyncio.run(asyncio.wait_for(run(), 10)) == [1, 2]


def test_an_error_comes_in_its_place_and_cancels_what_follows() -> None:
    """Results before a failed call are handed on; the calls after it are cancelled at once, and none is left."""
    ended: list[int] = []

    async def run() -> list[int]:
        last_ended = asyncio.Event()

        async def call(number: int) -> int:
            try:
                await (take_turns(50) if number == 2 else last_ended.wait())
                if number == 2:
                    raise KeyError(number)
            finally:
                ended.append(number)
                if number == 4:
                    last_ended.set()
            return number

        results: list[int] = []
        with pytest.raises(KeyError):
            async with asyncio.timeout(10):
                async for result in map_ordered(call, endless(), limit=5):
                    results.append(result)
        assert nothing_is_left()
        return results

    assert asyncio.run(run()) == [0, 1]
    assert ended == [2, 3, 4, 0, 1]


def test_an_error_of_the_input_comes_after_the_results_before_it() -> None:
    """Nothing that was read is lost when the input breaks."""

    def items() -> Iterator[int]:
        yield from (5, 3, 1)
        raise KeyError("broken")

    async def run() -> list[int]:
        results: list[int] = []
        with pytest.raises(KeyError):
            async for result in map_ordered(take_turns, items(), limit=2):
                results.append(result)
        assert nothing_is_left()
        return results

    assert asyncio.run(run()) == [5, 3, 1]


@pytest.mark.parametrize("by_cancelling", [False, True])
def test_a_reader_that_stops_cancels_all_calls(*, by_cancelling: bool) -> None:
    """No call outlives its reader."""
    begun, ended = 0, 0

    async def call(number: int) -> int:
        nonlocal begun, ended
        begun += 1
        try:
            await asyncio.sleep(60 if number else 0)
        finally:
            ended += 1
        return number

    async def read() -> None:
        async with aclosing(map_ordered(call, endless(), limit=4)) as results:
            async for _ in results:
                await take_turns(20)
                if not by_cancelling:
                    break

    async def run() -> None:
        task = asyncio.create_task(read())
        await take_turns(100)
        if by_cancelling:
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == by_cancelling
        assert nothing_is_left()

    asyncio.run(run())
    assert begun == ended > 1


def test_each_result_is_shown_as_soon_as_it_is_there() -> None:
    """`on_done` sees results in the order in which they come."""
    seen: list[int] = []

    async def run() -> list[int]:
        return [result async for result in map_ordered(take_turns, [50, 5, 20], limit=3, on_done=seen.append)]

    assert asyncio.run(run()) == [50, 5, 20]
    assert seen == [5, 20, 50]


def test_a_limit_below_one_is_refused() -> None:
    """No place at all would wait for ever."""

    async def run() -> None:
        await anext(map_ordered(take_turns, [1], limit=0))

    with pytest.raises(ValueError, match="at least 1"):
        asyncio.run(run())


# ---- progress --------------------------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_elsewhere_than_on_a_terminal_there_is_a_line_every_ten_seconds() -> None:
    """Each line tells how much is done, the rate, the time left and the note; the last one the time taken."""
    stream, clock = io.StringIO(), Clock()
    with progress("correct", 4000, done=1000, stream=stream, clock=clock) as tick:
        for _ in range(30):
            clock.now += 1
            tick(100, note="loss 0.5")
    assert stream.getvalue().splitlines() == [
        "correct: 2,000 of 4,000 rows, 100 rows/s, 0:20 left, loss 0.5",
        "correct: 3,000 of 4,000 rows, 100 rows/s, 0:10 left, loss 0.5",
        "correct: 4,000 of 4,000 rows, 100 rows/s, 0:30, loss 0.5",
        "correct: 4,000 of 4,000 rows, 100 rows/s, 0:30, loss 0.5",
    ]


def test_work_of_unknown_length_shows_the_time_taken() -> None:
    """Without a total there is no time left to tell; slow rates keep their figures."""
    stream, clock = io.StringIO(), Clock()
    with progress("train", unit="steps", stream=stream, clock=clock) as tick:
        clock.now += 3700
        tick(925)
    assert stream.getvalue().splitlines()[-1] == "train: 925 steps, 0.25 steps/s, 1:01:40"


def test_work_that_fails_shows_how_far_it_came() -> None:
    """The last line is printed and the error goes on."""
    stream, clock = io.StringIO(), Clock()
    with pytest.raises(KeyError), progress("convert", 10, stream=stream, clock=clock) as tick:
        clock.now += 1
        tick(3)
        raise KeyError("broken")
    assert stream.getvalue() == "convert: 3 of 10 rows, 3 rows/s, 0:02 left\n"


def test_work_that_has_not_begun_has_no_time_left() -> None:
    """Nothing is divided by zero."""
    stream = io.StringIO()
    with progress("correct", 10, stream=stream, clock=Clock()):
        pass
    assert stream.getvalue() == "correct: 0 of 10 rows, 0 rows/s, 0:00\n"


def test_on_a_terminal_there_is_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """The same words beside a bar, and what is printed on standard output stays there."""
    stream, clock = Terminal(), Clock()
    with progress("correct", 200, stream=stream, clock=clock) as tick:
        for _ in range(200):
            clock.now += 1
            tick()
        print("a row")
    shown = stream.getvalue()
    assert "correct: 200 of 200 rows, 1 rows/s" in shown
    assert "━" in shown
    assert "a row" not in shown
    assert capsys.readouterr().out == "a row\n"


def test_the_default_is_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to the results."""
    with progress("correct", 1) as tick:
        tick()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("correct: 1 of 1 rows, ")
