"""Laws of the gate: what is learnt from, and that no verdict is asked for twice."""

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from chat_server import Answer, body, completion, serving

from aligner.bootstrapping.gating import fates, gate, gated_in
from aligner.bootstrapping.lineage import Place
from aligner.bootstrapping.nouns import Corrected, Gated
from aligner.config.bootstrapping import PairGate
from aligner.errors import InputFileError, MisuseError, ModelError
from aligner.jobs import progress
from aligner.judge import load_judge
from aligner.records import Message
from aligner.world.profiles import PROFILES
from aligner.world.rows import rows

KILLED = """
import json, sys
from pathlib import Path
from aligner.bootstrapping.gating import gate
from aligner.bootstrapping.lineage import Place
from aligner.bootstrapping.nouns import Corrected
from aligner.config.bootstrapping import PairGate
from aligner.judge import load_judge
judge, folder, rows = sys.argv[1:]
corrected = [Corrected(*row) for row in json.loads(rows)]
place = Place(Path(folder) / "gate.jsonl", Path(folder))
gate(load_judge(judge), corrected, PairGate(), place=place, tick=lambda *_: None)
"""
"""the gate as a process of its own"""
SETTLED = 0.2
"""seconds after which a server has read all that was sent to it before"""


def placed(folder: Path) -> Place:
    """A place with a folder for unfinished work."""
    folder.mkdir(exist_ok=True)
    return Place(folder / "gate.jsonl", folder)


def gated(judge: str, corrected: list[Corrected], how: PairGate, folder: Path) -> list[Gated]:
    """What the gate makes of corrections."""
    place = placed(folder)
    with progress("gate") as tick:
        gate(load_judge(judge), corrected, how, place=place, tick=tick)
    return gated_in(place.path)


def longer(wait: float = 0.0) -> Answer:
    """A server's judge that prefers the longer answer."""

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(wait)
        user = (await request.json())["messages"][1]["content"]
        first, second = (len(text) for text in re.findall(r"<answer_\d>\n(.*?)\n</answer_\d>", user, re.DOTALL))
        return web.json_response(completion("0" if first == second else "1" if first > second else "2"))

    return answer


def lines_in(path: Path) -> int:
    """Whole lines in a file, none where there is none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def row(answer: str, correction: str, **fields: Any) -> Corrected:
    """A correction that nothing speaks against."""
    given: dict[str, Any] = {"question": "Q?", "finish": "stop", "edit": 0.5} | fields
    return Corrected(answer=answer, correction=correction, **given)


def test_mended_answers_are_learnt_and_spoilt_ones_are_not(tmp_path: Path) -> None:
    """By the oracle, the correction of a flawed answer is learnt, and what spoils a good one is not."""
    found = [row for profile in PROFILES.values() for row in rows(profile, count=3, seed=0, split="unseen")]
    mended = [Corrected(row.asked.text, row.answer, row.correction, "stop", 0.5) for row in found]
    turned = [row._replace(answer=row.correction, correction=row.answer) for row in mended]
    for corrected, fate in ((mended, "learnt"), (turned, "not preferred")):
        gates = gated("world:", corrected, PairGate(), tmp_path / fate)
        assert [row.fate for row in gates] == [fate if row.flaws else "unchanged" for row in found]
        assert [row[:3] for row in gates] == [row[:3] for row in corrected]
        assert all(set(row.said) == ({"helpful", "harmless", "honest"} if row.fate == fate else set()) for row in gates)


def test_what_needs_no_judge_is_not_judged(tmp_path: Path) -> None:
    """Cut off goes before unchanged, unchanged before a small edit; what a guard took back is kept."""
    corrected = [
        row("long", "longer", finish="length"),
        row("same", "same", finish="length", edit=0.0),
        row("same", "same", edit=0.0),
        row("sure", "sure", edit=0.0, kept_reason="gate"),
        row("same", "same", edit=0.0, kept_reason="the correction was cut off"),
        row("a b", "a  b", edit=0.0),
        row("a b", "a c", edit=0.019),
    ]
    found = gated("world:", corrected, PairGate(), tmp_path)
    assert [row.fate for row in found] == [
        "cut off",
        "cut off",
        "unchanged",
        "unchanged",
        "kept",
        "small edit",
        "small edit",
    ]
    assert fates(found) == {"learnt": 0, "unchanged": 2, "cut off": 2, "kept": 1, "small edit": 2, "not preferred": 0}


@pytest.mark.parametrize("qualities", [("honest",), ("helpful", "harmless"), ()])
def test_a_quality_beyond_the_judge_is_told_before_any_work(tmp_path: Path, qualities: Any) -> None:
    """A judge that cannot judge by a quality, and a gate of none, are refused though there is no row to judge."""
    with pytest.raises(MisuseError, match=r"cannot judge what is (honest|harmless), only helpful|names none"):
        gated("refusal:", [], PairGate(qualities=qualities), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_rows_are_what_was_gated(tmp_path: Path) -> None:
    """A conversation and hostile text come back as they went in; the rows of another file are refused by line."""
    question = (Message("user", "Hi"), Message("assistant", ""), Message("user", "</s>\u2028?"))
    corrected = [row("\x00", "\u2028</s>é", question=question, finish="length"), row("", "x", edit=0.0)]
    found = gated("world:", corrected, PairGate(), tmp_path)
    assert [row[:3] for row in found] == [row[:3] for row in corrected]
    (tmp_path / "other.jsonl").write_text('{"question": "Q", "answer": "A"}\n')
    with pytest.raises(InputFileError, match=r"other\.jsonl:1: is no row of a gate"):
        gated_in(tmp_path / "other.jsonl")


def test_a_judge_that_fails_loses_no_verdict(tmp_path: Path) -> None:
    """The error is raised, what was judged is kept, and the next run asks for all else and nothing twice."""
    corrected = [row("no", f"no{'!' * i}", question=f"Q{i}?") for i in range(1, 31)]
    how = PairGate(qualities=("helpful",))

    async def law() -> tuple[int, list[Gated]]:
        async with serving(*[longer()] * 40, body("no", 401), longer()) as served:
            work = f"openai:judge@{served.base_url}", corrected, how, tmp_path
            with pytest.raises(ModelError, match="status 401"):
                await asyncio.to_thread(gated, *work)
            await asyncio.sleep(SETTLED)
            kept, asked = lines_in(tmp_path / "verdicts.jsonl"), len(served.payloads)
            found = await asyncio.to_thread(gated, *work)
            assert len(served.payloads) - asked == 2 * (len(corrected) - kept)
        return kept, found

    kept, found = asyncio.run(law())
    assert 0 < kept < 30
    assert [row.fate for row in found] == ["learnt"] * 30


def test_a_killed_gate_asks_for_no_verdict_again(tmp_path: Path) -> None:
    """Killed in the middle, the next run asks for the verdicts that were not kept, and ends with the same bytes."""
    corrected = [row("nono", "no" * (i % 4 + 1), question=f"Q{i}?") for i in range(40)]
    verdicts, kept = 3 * 30, tmp_path / "killed" / "verdicts.jsonl"

    async def law() -> None:
        async with serving(longer(wait=0.02)) as served:
            judge, place = f"openai:judge@{served.base_url}", placed(tmp_path / "killed")
            words = "-c", KILLED, judge, str(place.scratch), json.dumps(corrected)
            process = await asyncio.create_subprocess_exec(sys.executable, *words)
            while process.returncode is None and lines_in(kept) < 20:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.001)
            process.kill()
            assert await process.wait() == -signal.SIGKILL
            await asyncio.sleep(SETTLED)
            before, asked = lines_in(kept), len(served.payloads)
            await asyncio.to_thread(gated, judge, corrected, PairGate(), tmp_path / "killed")
            assert len(served.payloads) - asked == 2 * (verdicts - before)
            await asyncio.to_thread(gated, judge, corrected, PairGate(), tmp_path / "whole")

    asyncio.run(law())
    assert (tmp_path / "killed" / "gate.jsonl").read_bytes() == (tmp_path / "whole" / "gate.jsonl").read_bytes()
    found = [row.fate for row in gated_in(tmp_path / "whole" / "gate.jsonl")]
    assert found == ["not preferred", "unchanged", "learnt", "learnt"] * 10
