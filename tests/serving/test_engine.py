"""Laws of the engine's client: each answer gets its own correction or one clear failure, whatever the process does."""

import asyncio
import gc
import json
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from engines import ECHO, corrected, failure, quick, stopped, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import EXCHANGES, tiny_aligner

from aligner.correct import Aligner
from aligner.records import Message, apply_edits
from aligner.serving.engine import Engine, EngineFailure, EngineOptions, Finished

TURNS = (Message("system", "Be kind."), Message("user", "Who are you?"))


class Kept:
    """An engine that lives for many examples, and the loop that it lives in."""

    def __init__(self, runner: asyncio.Runner, engine: Engine) -> None:
        self.runner = runner
        self.engine = engine

    def correct(self, answer: str, pieces: list[str]) -> tuple[str, Finished]:
        """One correction, whose answer comes in these pieces."""

        async def run() -> tuple[str, Finished]:
            work = self.engine.open(TURNS)
            for piece in pieces:
                work.append(piece)
            return await whole(work.finish(answer))

        return self.runner.run(run())


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    with asyncio.Runner() as runner:
        engine = Engine(ECHO)
        runner.run(engine.__aenter__())
        yield Kept(runner, engine)
        runner.run(engine.__aexit__())


@settings(max_examples=100)
@given(answer=st.text().filter(str.strip), pieces=st.lists(st.text()))
def test_a_copy_comes_back_letter_for_letter(kept: Kept, answer: str, pieces: list[str]) -> None:
    """Any answer at all, whatever had been said of it before it was whole."""
    text, end = kept.correct(answer, pieces)
    assert text == end.text == answer
    assert (end.changed, end.kept_reason, end.edits) == (False, None, ())


@given(pieces=st.lists(st.text(st.characters(categories=["L", "Cs"]))))
def test_telling_what_has_come_never_raises(kept: Kept, pieces: list[str]) -> None:
    """Not even with halves of letters, which nothing can carry."""
    assert kept.correct("canary", pieces)[0] == "canary"


def test_a_text_that_nothing_can_carry_is_a_failure(kept: Kept) -> None:
    """The question or the answer has half of a letter: there is no correction, and the engine goes on."""

    async def run() -> None:
        for question, answer in (("\ud800", "a"), ("q", "\ud800")):
            assert (await failure(kept.engine.open(question).finish(answer))).cause == "insane_output"
        assert await corrected(kept.engine, "canary") == "canary"

    kept.runner.run(run())


def test_a_text_longer_than_a_message_is_too_long(kept: Kept) -> None:
    """It is not sent, since it would end the connection of all others."""

    async def run() -> None:
        assert (await failure(kept.engine.open("q").finish("a" * 2**26))).cause == "too_long"
        assert await corrected(kept.engine, "a" * 2**22) == "a" * 2**22

    kept.runner.run(run())


def test_many_at_once_get_their_own(tmp_path: Path) -> None:
    """Five hundred answers with canaries, some of them cancelled on the way: nothing crosses, nothing is left."""
    (tmp_path / "rules.json").write_text(json.dumps([{"pattern": "Lyon", "replace": "Paris"}]))

    async def run() -> None:
        async with Engine(quick(aligner=f"rules:{tmp_path / 'rules.json'}", waiting=500)) as engine:

            async def one(number: int) -> None:
                work = engine.open(f"q {number}")
                work.append(f"Lyon {number}" * (number % 9))
                if number % 7 == 0:
                    work.cancel()
                    return
                text, end = await whole(work.finish(f"Lyon {number}"))
                assert text == end.text == f"Paris {number}"
                assert apply_edits(f"Lyon {number}", end.edits) == text

            await asyncio.gather(*map(one, range(500)))
            assert engine.waiting == 0

    asyncio.run(run())


def test_a_language_model_corrects_as_in_this_process(tmp_path: Path) -> None:
    """Text, figures and verdict are those of `Aligner.correct`, however the answer came; a gate keeps it."""
    folder = str(tiny_aligner(tmp_path))
    aligner = Aligner.from_pretrained(folder, device="cpu")
    local = [aligner.correct(each.question, each.answer, doubt=True) for each in EXCHANGES]

    async def run() -> None:
        async with Engine(EngineOptions(aligner=folder, device="cpu")) as engine:
            assert (engine.fingerprint, engine.context) == (aligner.writer.fingerprint, 256)
            for exchange, expected in zip(EXCHANGES, local, strict=True):
                work = engine.open(exchange.question)
                for letter in exchange.answer:
                    work.append(letter)
                text, end = await whole(work.finish(exchange.answer, doubt=True))
                assert (end.text, end.kept_reason, end.changed) == (
                    expected.text,
                    expected.kept_reason,
                    expected.changed,
                )
                assert end.kept_reason or text == end.text
                assert (end.edits, end.usage) == (expected.edits, expected.usage)
                assert end.confidence == pytest.approx(expected.confidence, rel=1e-3)
                assert end.doubt == pytest.approx(expected.doubt, rel=1e-3, abs=1e-6)
                assert end.spans == expected.spans
                assert end.seconds.keys() == {"queue", "read", "verify", "edit"}
                assert min(end.seconds.values()) >= 0
                assert end.seconds["verify"] > 0
                kept_text, kept_end = await whole(engine.open(exchange.question).finish(exchange.answer, gate=0.0))
                assert (kept_text, kept_end.text, kept_end.kept_reason) == ("", exchange.answer, "gate")
            assert (await failure(engine.open("why " * 300).finish("so"))).cause == "too_long"

    asyncio.run(run())


def test_a_correction_has_so_many_seconds() -> None:
    """Then it fails as `timeout`, and is cancelled; the engine goes on."""

    async def run() -> None:
        async with Engine(quick(seconds=0.2)) as engine:
            async with stopped(engine):
                began = time.monotonic()
                assert (await failure(engine.open("q").finish("a"))).cause == "timeout"
                assert 0.15 < time.monotonic() - began < 5
            assert await corrected(engine, "canary") == "canary"
            assert engine.waiting == 0

    asyncio.run(run())


def test_a_slow_reader_loses_nothing() -> None:
    """What was there in time is handed on, however late it is taken."""

    async def run() -> None:
        async with Engine(quick(seconds=0.2)) as engine, aclosing(engine.open("q").finish("canary")) as pieces:
            assert await anext(pieces) == "canary"
            await asyncio.sleep(0.3)
            end = await anext(pieces)
            assert isinstance(end, Finished)
            assert end.text == "canary"

    asyncio.run(run())


def test_a_full_queue_is_said_at_once() -> None:
    """More than can wait fail as `queue_full`; the others are done."""

    async def run() -> None:
        async with Engine(quick(rows=1, waiting=3)) as engine:
            async with stopped(engine):
                works = [engine.open("q") for _ in range(50)]
                tasks = [asyncio.create_task(whole(work.finish(f"canary {i}"))) for i, work in enumerate(works)]
                await asyncio.sleep(0.05)
            found = await asyncio.gather(*tasks, return_exceptions=True)
            failed = [each.cause for each in found if isinstance(each, EngineFailure)]
            done = [each[0] for each in found if isinstance(each, tuple)]
            assert failed == ["queue_full"] * len(failed)
            assert len(failed) > 0
            assert done == [f"canary {i}" for i in range(50) if isinstance(found[i], tuple)]
            assert len(done) >= 4
            assert await corrected(engine, "canary") == "canary"

    asyncio.run(run())


def test_a_cancelled_correction_fails_whoever_waits_for_it() -> None:
    """Cancelled from anywhere, as often as one likes, also when it is over."""

    async def run() -> None:
        async with Engine(ECHO) as engine:
            async with stopped(engine):
                work = engine.open("q")
                waiting = asyncio.create_task(failure(work.finish("a")))
                await asyncio.sleep(0.05)
                work.cancel()
                work.cancel()
                assert (await waiting).message == "the correction was cancelled"
            never = engine.open("q")
            never.cancel()
            assert (await failure(never.finish("a"))).message == "the correction was cancelled"
            over = engine.open("q")
            assert (await whole(over.finish("canary")))[0] == "canary"
            over.cancel()
            with pytest.raises(ValueError, match="finished once"):
                await whole(over.finish("canary"))
            assert engine.waiting == 0

    asyncio.run(run())


def test_whoever_lets_go_of_a_work_cancels_it() -> None:
    """Dropped before it is finished, or left in the middle, it takes no place: more than could wait are let go of."""

    async def run() -> None:
        async with Engine(quick(rows=1, waiting=1)) as engine:
            assert engine.connection is not None
            for _ in range(20):
                engine.open("q").append("so " * 100)
                async with aclosing(engine.open("q").finish("canary")) as pieces:
                    assert await anext(pieces) == "canary"
                unread = engine.open("q").finish("canary")
                del unread
            gc.collect()
            await asyncio.sleep(0)
            assert engine.waiting == 0
            assert engine.connection.pending == 0
            assert await corrected(engine, "canary") == "canary"

    asyncio.run(run())
