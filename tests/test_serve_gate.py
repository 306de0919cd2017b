"""Laws of mode gate with a language model: the checkpoint's own gate decides unless another is given."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from proxies import Proxied, ask, proxied
from tiny import tiny_aligner

from aligner.config import NamedAligner
from aligner.correct import Aligner
from aligner.errors import MisuseError
from aligner.serving.engine import Engine, EngineOptions, Finished
from aligner.testing.corpus import CORPUS
from aligner.training.card import Card
from aligner.training.gate import FittedGate

GATE = FittedGate(
    slope=0.9,
    offset=3.0,
    threshold=None,
    wanted=0.01,
    of="let_through",
    at_most=0.01,
    let_through=0.0,
    needless=0.0,
    ece=0.0,
    good=400,
    flawed=400,
)
ENTRY = next(entry for entry in CORPUS if entry.name == "chat-unchanged")


def aligner_with(folder: Path, threshold: float | None) -> Path:
    """A tiny Aligner whose gate has that threshold."""
    tiny_aligner(folder, context=1024)
    replace(Card.load(folder), gate=replace(GATE, threshold=threshold).card).save(folder)
    return folder


async def reported(proxy: Proxied, **headers: str) -> dict[str, Any]:
    """What an answer says about its only choice."""
    async with aiohttp.ClientSession() as session:
        body = orjson.dumps({**ENTRY.payload, "aligner": {"report": True}})
        got = await ask(session, proxy.url + ENTRY.path, body, **headers)
        assert got.status == 200
        return orjson.loads(got.body)["aligner"]["choices"][0]


async def corrected(proxy: Proxied, question: str, answer: str) -> dict[str, Any]:
    """What /v1/aligner/correct says."""
    async with aiohttp.ClientSession() as session:
        body = orjson.dumps({"question": question, "answer": answer})
        return orjson.loads((await ask(session, f"{proxy.url}/v1/aligner/correct", body)).body)


@pytest.mark.slow  # engines of language models take seconds to start
def test_the_checkpoints_gate_keeps_answers(tmp_path: Path) -> None:
    """Without --gate its threshold decides, with one that does, and neither where a request tells what to do.

    Confidences are its probabilities everywhere.
    """
    lax = aligner_with(tmp_path / "lax", GATE.curve.probability(0.0))
    told: dict[str, Any] = {"allow_instructions": "objectives"}

    async def run() -> None:
        async with proxied(aligner=str(lax), device="cpu", mode="gate", allow=("correct",), **told) as proxy:
            kept = await reported(proxy)
            assert (kept["kept_reason"], kept["changed"]) == ("gate", False)
            free = await reported(proxy, x_aligner_mode="correct")
            assert free["kept_reason"] != "gate"
            assert free["confidence"] == pytest.approx(kept["confidence"], rel=1e-3)
            assert (await reported(proxy, x_aligner_objective="code"))["kept_reason"] != "gate"
            found = await corrected(proxy, "Who?", "Me, and no other.")
            expected = Aligner.from_pretrained(str(lax), device="cpu").correct("Who?", "Me, and no other.")
            assert found["confidence"] == pytest.approx(expected.confidence, rel=1e-3)
            assert found["kept_reason"] == expected.kept_reason
        async with proxied(aligner=str(lax), device="cpu", mode="gate", gate=1.0) as proxy:
            assert (await reported(proxy))["kept_reason"] != "gate"

    asyncio.run(run())


@pytest.mark.slow  # as above
def test_without_a_gate_the_mode_is_refused_at_the_start(tmp_path: Path) -> None:
    """In one line that says which Aligner and names the cure; no engine is left behind."""
    lax, none = aligner_with(tmp_path / "lax", 0.0), aligner_with(tmp_path / "none", None)

    async def start(**fields: Any) -> None:
        async with proxied(device="cpu", allow=("gate",), **fields):
            pass

    with pytest.raises(MisuseError, match="mode gate: the Aligner has no gate of its own; give --gate"):
        asyncio.run(start(aligner=str(none)))
    others = (NamedAligner(name="other", aligner="echo:"),)
    with pytest.raises(MisuseError, match="mode gate: the Aligner other has no gate of its own"):
        asyncio.run(start(aligner=str(lax), aligners=others))
    asyncio.run(start(aligner=str(lax), aligners=others, gate=0.5))


@pytest.mark.slow  # as above
def test_an_engine_that_starts_again_takes_its_new_gate(tmp_path: Path) -> None:
    """Its own threshold goes with its own curve; where it has none any more, the answer is corrected."""
    folder = aligner_with(tmp_path / "lax", GATE.curve.probability(0.0))

    async def run() -> None:
        async with Engine(EngineOptions(aligner=str(folder), device="cpu", restart_after=0.05)) as engine:
            assert await kept_reason(engine) == "gate"
            for threshold in (GATE.curve.probability(1.0), None):
                aligner_with(folder, threshold)
                await started_again(engine)
                assert engine.threshold == threshold
                assert await kept_reason(engine) != "gate"

    asyncio.run(run())


async def kept_reason(engine: Engine) -> str | None:
    """Why an answer was kept by the Aligner's own gate, if it was."""
    *_, found = [item async for item in engine.open("Who?").finish("Me, and no other.", gate="own")]
    assert isinstance(found, Finished)
    return found.kept_reason


async def started_again(engine: Engine) -> None:
    """End the process, and wait for the next one."""
    old = engine.connection
    assert old is not None
    os.kill(old.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while engine.connection in (old, None):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.05)


def test_an_engine_says_which_gate_it_has() -> None:
    """One that has none says so."""

    async def run() -> float | None:
        async with Engine(EngineOptions(aligner="echo:")) as engine:
            return engine.threshold

    assert asyncio.run(run()) is None
