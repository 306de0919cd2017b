"""Laws of the pace: what a server sees stays within its limits, and close to them, however many workers there are."""

import asyncio
import time
from bisect import bisect_left
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_worker import requests, started
from paid_server import Stats, paid_server

from aligner.building.ledger import Ledger
from aligner.building.pacing import Pacer
from aligner.building.store import Store
from aligner.building.workers import Worker


def seen(folder: Path, count: int, terms: dict[str, Any], **options: Any) -> Stats:
    """What a server saw of two workers with so many calls between them."""
    with Store(folder / "build.sqlite") as store, Worker(folder) as worker:
        Ledger(store, worker).add(requests(f"Who is number {i}? {'x' * (i % 97)}" for i in range(count)))
    with paid_server(**terms) as server:
        workers = [started(folder, server.base_url, at_a_time=16, **options) for _ in range(2)]
        assert [worker.wait(120) for worker in workers] == [0, 0]
        return server.stats()


def most(moments: list[float], weights: list[int], seconds: float) -> int:
    """The greatest sum of weights within such a time."""
    sums = [0, *accumulate(weights)]
    ends = [bisect_left(moments, moment + seconds) for moment in moments]
    return max(sums[end] - sums[place] for place, end in enumerate(ends))


@pytest.mark.slow
def test_two_workers_keep_the_requests_per_minute(tmp_path: Path) -> None:
    """At 600 a minute, over 20 seconds: the rate is within 5 % of that, and so is the busiest ten seconds' one."""
    stats = seen(tmp_path, 210, {"requests": 600}, limits=[600.0, 0.0])
    moments = sorted(stats.arrivals)
    rate = (len(moments) - 1) / (moments[-1] - moments[0])
    busiest = most(moments, [1] * len(moments), 10.0) / 10
    print(f"{rate:.2f} of 10 a second, busiest ten seconds {busiest:.2f}, {stats.crowded} refused")
    assert 9.5 <= rate <= 10.5
    assert busiest <= 10.5
    assert not stats.crowded


@pytest.mark.slow
def test_two_workers_keep_the_tokens_per_minute(tmp_path: Path) -> None:
    """With a tenth of the time for a minute and answers that are longer than thought, the same holds for tokens."""
    limit, minute = 6000, 6.0
    stats = seen(
        tmp_path,
        300,
        {"tokens": limit, "minute": minute, "written": 30, "seconds": (0.0, 0.2)},
        limits=[0.0, float(limit), minute],
    )
    tokens = [count for _, count in stats.accepted]
    moments = [moment for moment, _ in stats.accepted]
    assert moments == sorted(moments)
    # What is thought before the first answers is left out.
    late = bisect_left(moments, moments[0] + minute)
    rate = sum(tokens[late:-1]) / (moments[-1] - moments[late])
    print(f"{rate:.1f} tokens a second of {limit / minute:.1f}, {stats.crowded} refused of {len(stats.arrivals)}")
    assert 0.95 <= rate / (limit / minute) <= 1.05
    assert len(stats.accepted) == 300


def test_places_of_a_run_that_was_killed_are_free(tmp_path: Path) -> None:
    """Alone at work, nobody waits behind calls that were never made; beside another worker its places are kept."""
    with Store(tmp_path / "build.sqlite") as store:
        killed = Pacer(store, "m", 6)
        for _ in range(8):
            killed._slot(0)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        with Worker(tmp_path) as one, Worker(tmp_path) as other:
            Ledger(store, one)
            assert Pacer(store, "m", 6)._slot(0).moment < time.time() + 11  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            Ledger(store, other)
            assert Pacer(store, "m", 6)._slot(0).moment > time.time() + 15  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


@settings(max_examples=15)
@given(rate=st.integers(600, 6000), count=st.integers(5, 40))
def test_no_more_begin_in_a_time_than_the_rate_allows(
    tmp_path_factory: pytest.TempPathFactory, rate: int, count: int
) -> None:
    """In any stretch of time, the calls that begin are at most those of the rate and a small burst."""
    minute = 6.0
    path = tmp_path_factory.mktemp("pace") / "build.sqlite"

    async def moments() -> list[float]:
        with Store(path) as store, Store(path) as other:
            pacers = [Pacer(each, "m", rate, minute=minute) for each in (store, other)]
            begun: list[float] = []

            async def call(pacer: Pacer) -> None:
                await pacer.wait()
                begun.append(time.time())

            await asyncio.gather(*(call(pacers[place % 2]) for place in range(count)))
            return sorted(begun)

    begun = asyncio.run(moments())
    # Who is woken late begins late: a call may have had its moment before a stretch and begin within it.
    allowed = rate / minute * (begun[-1] - begun[0]) + 0.01 * rate + 1
    assert count <= allowed + 1


def test_a_pause_holds_for_all_workers_and_lets_them_go_one_by_one(tmp_path: Path) -> None:
    """Nobody begins during a pause, those who had a place neither, and behind it the rate is kept."""

    async def run() -> list[float]:
        with Store(tmp_path / "build.sqlite") as store, Store(tmp_path / "build.sqlite") as other:
            pacers = [Pacer(each, "m", 600, minute=6.0) for each in (store, other)]  # 98 a second
            begun: list[float] = []

            async def call(pacer: Pacer) -> None:
                await pacer.wait()
                begun.append(time.time() - start)

            start = time.time()
            calls = [asyncio.create_task(call(pacers[place % 2])) for place in range(40)]
            await asyncio.sleep(0.05)
            pacers[0].pause(0.5)
            paused = time.time() - start
            await asyncio.gather(*calls)
            return [moment - paused for moment in sorted(begun)]

    begun = asyncio.run(run())
    before = [moment for moment in begun if moment < 0.01]
    after = [moment for moment in begun if moment >= 0.01]
    assert before
    assert len(after) > 10
    assert after[0] >= 0.49
    assert after[-1] >= 0.49 + (len(after) - 8) / 98


def test_tokens_that_were_not_taken_are_given_back(tmp_path: Path) -> None:
    """A call that took less than thought lets the next ones begin earlier, one that took more later."""

    async def waited(actual: float) -> float:
        with Store(tmp_path / f"{actual}.sqlite") as store:
            pacer = Pacer(store, "m", tokens_per_minute=1000, minute=1.0)
            await pacer.wait(200)
            pacer.settle(200, actual)
            start = time.time()
            await pacer.wait(10)
            return time.time() - start

    assert asyncio.run(waited(0)) < 0.1
    assert asyncio.run(waited(200)) < 0.2
    assert asyncio.run(waited(500)) > 0.25


def test_without_limits_nobody_waits(tmp_path: Path) -> None:
    """A model without limits is asked at once, but in a pause."""

    async def run() -> tuple[float, float]:
        with Store(tmp_path / "build.sqlite") as store:
            pacer = Pacer(store, "m")
            start = time.time()
            for _ in range(50):
                await pacer.wait(10**6)
            free = time.time() - start
            pacer.pause(0.2)
            await pacer.wait()
            return free, time.time() - start - free

    free, paused = asyncio.run(run())
    assert free < 1
    assert 0.15 < paused < 3
