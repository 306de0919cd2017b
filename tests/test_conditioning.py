"""Laws of conditioning: an Aligner does what it is told, in training, in use and behind the proxy alike."""

import asyncio
import re
import runpy
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from proxies import ask, proxied
from tiny import tiny_aligner

from aligner.config import (
    CorrectConfig,
    CorrectionStage,
    IdentityStage,
    NamedAligner,
    NewModel,
    ServeConfig,
    Telling,
    TrainConfig,
)
from aligner.correct import AlignedModel, Aligner, correct_answers
from aligner.data.fields import row_of, triple_of
from aligner.data.splits import hold_out
from aligner.errors import InputFileError, MisuseError
from aligner.files import write_rows
from aligner.models import load_model
from aligner.objectives import OBJECTIVES
from aligner.records import Correction, Exchange, Message, Triple
from aligner.serve import check
from aligner.serving.database import place_of
from aligner.serving.pairing import engines_of
from aligner.serving.store import Store
from aligner.serving.telling import instruction_in
from aligner.serving.wire import WireError
from aligner.templates import TEMPLATES
from aligner.testing import Upstream, by_model
from aligner.testing.named import says
from aligner.train import train

_HISTORY = (
    Message("system", "Be kind."),
    Message("user", "Hi"),
    Message("assistant", "Hello!"),
    Message("user", "How are you?"),
)
_TURNS = [{"role": turn.role, "content": turn.content} for turn in _HISTORY]
_ANSWERS = ("It is so, and it was so.", "No, it was not so.", "All is so.")
_WANTED = {"concise": "So.", "helpful": "It is so because it is."}
_CODE = OBJECTIVES["code"].instruction


def test_the_same_answer_is_corrected_as_the_instruction_wants(tmp_path: Path) -> None:
    """Of rows with one conversation that differ in their objectives alone, a small model learns to follow these."""
    rows: list[dict[str, Any]] = [
        {"messages": _TURNS, "answer": answer, "objective": objective, "correction": correction}
        for answer in _ANSWERS
        for objective, correction in _WANTED.items()
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    config = TrainConfig(
        triples=tmp_path / "rows.jsonl",
        out=tmp_path / "run",
        new=NewModel(layers=1, width=32, heads=2, inner=64, vocabulary=300, context=256),
        held_out=0,
        identity=IdentityStage(share=0.0),
        correction=CorrectionStage(batch=6, accumulate=1, epochs=150, learning_rate=1e-2, warmup=0.1),
        device="cpu",
        save_every=1000,
    )
    aligner = Aligner.from_pretrained(str(train(config)), device="cpu")
    for row in rows:
        told = OBJECTIVES[row["objective"]].instruction
        assert aligner.correct(_HISTORY, row["answer"], instruction=told).text == row["correction"]


def test_an_instruction_that_is_only_held_out_is_not_learnt(tmp_path: Path) -> None:
    """Control tokens are learnt from rows that are trained on; where there are none, that is said before it starts."""
    rows = [Triple(f"What is {i}?", f"It is {i}.", f"It is {i + 1}.") for i in range(8)]
    held_out = hold_out(rows, 2, seed=42).held_out
    told = [replace(row, instruction="be brief") if row in held_out else row for row in rows]
    write_rows(tmp_path / "rows.jsonl", map(row_of, told))
    config = TrainConfig(triples=tmp_path / "rows.jsonl", out=tmp_path / "run", held_out=2, device="cpu")
    with pytest.raises(MisuseError, match="all rows with an instruction are held out"):
        train(config)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_aligner(tmp_path_factory.mktemp("conditioning"), context=512))


def test_every_way_to_correct_takes_an_instruction(checkpoint: str) -> None:
    """One answer, whole, in pieces and behind an upstream: what is told is read, together with the conversation."""
    aligner = Aligner.from_pretrained(checkpoint, device="cpu")
    told, untold = (aligner.correct(_HISTORY, "So.", instruction=said) for said in (_CODE, ""))
    assert told.usage.prompt_tokens > untold.usage.prompt_tokens
    assert told.confidence != untold.confidence
    assert _ended(aligner.stream(_HISTORY, "So.", instruction=_CODE)) == told
    assert asyncio.run(aligner.acorrect(_HISTORY, "So.", instruction=_CODE)) == told
    aligned = asyncio.run(AlignedModel(load_model("echo:"), aligner, instruction=_CODE).complete(_HISTORY))
    assert aligned.text == aligner.correct(_HISTORY, _HISTORY[-1].content, instruction=_CODE).text


def _ended(pieces: Generator[str, None, Correction]) -> Correction:
    """What a stream returns."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value


def test_a_file_is_corrected_as_each_row_says(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row's own objective comes first, the command's is for the others; another one is another run."""
    rows: list[dict[str, Any]] = [{"messages": _TURNS, "answer": "So."}, {"messages": _TURNS, "answer": "So."}]
    rows[1]["objective"] = "code"
    write_rows(tmp_path / "in.jsonl", rows)
    config = CorrectConfig(
        answers=tmp_path / "in.jsonl", out=tmp_path / "out.jsonl", aligner=checkpoint, objective="concise", device="cpu"
    )
    correct_answers(config)
    written = [orjson.loads(line)["correction"] for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    aligner = Aligner.from_pretrained(checkpoint, device="cpu")
    asked = [Exchange(_HISTORY, "So.", instruction=OBJECTIVES[name].instruction) for name in ("concise", "code")]
    assert written == [correction.text for correction in aligner.correct_many(asked)]
    assert "1 told by an instruction of their own" in capsys.readouterr().err
    with pytest.raises(MisuseError, match="give one of them"):
        correct_answers(replace(config, instruction="be brief"))
    write_rows(tmp_path / "in.jsonl", [*rows * 8, {"question": "Why?"}])
    broken_off = replace(config, out=tmp_path / "more.jsonl", batch=1)
    with pytest.raises(InputFileError, match=r"in\.jsonl:17"):
        correct_answers(broken_off)
    with pytest.raises(MisuseError, match="belongs to another run"):
        correct_answers(replace(broken_off, objective="helpful"))


@pytest.mark.parametrize("aligner", ["demo", "echo:"])
def test_a_row_cannot_tell_what_its_aligner_does_not_take(
    aligner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a bad row with its place and the cure, and may be skipped; the command's own is refused at once."""
    asked = {"question": "Why?", "answer": "So."}
    write_rows(tmp_path / "in.jsonl", [asked, {**asked, "instruction": "Answer the question."}])
    config = CorrectConfig(answers=tmp_path / "in.jsonl", out=tmp_path / "out.jsonl", aligner=aligner, device="cpu")
    with pytest.raises(InputFileError, match=r"in\.jsonl:2: .*this one takes none: leave the column out"):
        correct_answers(config)
    with pytest.raises(MisuseError, match="takes no instruction"):
        correct_answers(replace(config, out=tmp_path / "told.jsonl", objective="concise"))
    correct_answers(replace(config, out=tmp_path / "skipped.jsonl", on_bad_row="skip"))
    assert len((tmp_path / "skipped.jsonl").read_bytes().splitlines()) == 1
    assert "1 skipped" in capsys.readouterr().err


@pytest.mark.slow
def test_a_request_tells_its_aligner_what_to_do(checkpoint: str, tmp_path: Path) -> None:
    """By our own field, by the header and without an upstream; the conversation is read too, and nothing goes on.

    The log tells apart what was told, and nothing else.
    """
    aligner = Aligner.from_pretrained(checkpoint, device="cpu")
    concise, code, brief = (
        pytest.approx(aligner.correct(_HISTORY, "So.", instruction=said).confidence)
        for said in (OBJECTIVES["concise"].instruction, _CODE, "be brief")
    )
    fields: dict[str, Any] = {
        "aligner": checkpoint,
        "device": "cpu",
        "objective": "concise",
        "allow_instructions": "any",
        "log": str(tmp_path / "log.db"),
    }

    async def run() -> None:
        upstream = Upstream(by_model({"m": says("So.")}))
        async with proxied(upstream, **fields) as proxy, aiohttp.ClientSession() as session:
            assert await _sure(session, proxy.url, {}) == concise
            assert await _sure(session, proxy.url, {"objective": "concise"}) == concise
            assert await _sure(session, proxy.url, {"objective": "code"}) == code
            assert await _sure(session, proxy.url, {"objective": "code", "stream": True}) == code
            assert await _sure(session, proxy.url, {}, x_aligner_objective="code") == code
            assert await _sure(session, proxy.url, {"instruction": "be brief"}) == brief
            assert await _sure(session, proxy.url, {"objective": "cod"}) == 400
            bare = orjson.dumps({"messages": _TURNS, "answer": "So.", "objective": "code"})
            got = await ask(session, f"{proxy.url}/v1/aligner/correct", bare)
            assert orjson.loads(got.body)["confidence"] == code
            seen = b"".join(call.asked.body + repr(call.asked.headers).encode() for call in proxy.upstream.calls)
            assert not any(word in seen for word in (b"objective", b"instruction", b"be brief"))

    asyncio.run(run())
    with closing(Store(place_of(str(tmp_path / "log.db")))) as store:
        found = [row.aligner for row in store.rows()]
    usual, brief_one = found[0], found[-1]
    assert found == [usual] * 2 + [found[2]] * 3 + [brief_one]
    assert len({*found, aligner.writer.fingerprint}) == 4
    assert all(name.startswith(aligner.writer.fingerprint) for name in found)


@pytest.mark.parametrize(
    ("fields", "header", "allowed", "told"),
    [
        ({}, "", "no", ""),
        ({"instruction": None, "objective": ""}, "", "no", ""),
        ({"objective": "code"}, "", "objectives", _CODE),
        ({"objective": "concise"}, "code", "objectives", _CODE),
        ({"instruction": "be brief"}, "", "any", "be brief"),
    ],
)
def test_a_request_says_what_the_operator_allows(
    fields: dict[str, object], header: str, allowed: Telling, told: str
) -> None:
    """A name or any words, where they are allowed; the header comes first."""
    assert instruction_in(fields, [("x-aligner-objective", header)], allowed, takes=True) == told


@pytest.mark.parametrize(
    ("fields", "header", "allowed", "code"),
    [
        ({"objective": "code"}, "", "no", "instruction_not_allowed"),
        ({}, "code", "no", "instruction_not_allowed"),
        ({"instruction": "be brief"}, "", "objectives", "instruction_not_allowed"),
        ({"instruction": "be brief"}, "code", "any", "wrong_value"),
        ({"objective": "cod"}, "", "any", "wrong_value"),
        ({"objective": 5}, "", "any", "wrong_type"),
        ({"instruction": ["be brief"]}, "", "any", "wrong_type"),
    ],
)
def test_what_a_request_may_not_say_is_a_clear_error(
    fields: dict[str, object], header: str, allowed: Telling, code: str
) -> None:
    """What is not allowed, no text, no objective, or both at once."""
    with pytest.raises(WireError) as raised:
        instruction_in(fields, [("x-aligner-objective", header)], allowed, takes=True)
    assert (raised.value.status, raised.value.code) == (400, code)


def test_a_name_of_any_length_is_refused_at_once() -> None:
    """It is compared with nothing, and only its beginning is repeated."""
    with pytest.raises(WireError, match='unknown objective "abab') as raised:
        instruction_in({"objective": "ab" * 2_000_000}, [], "any", takes=True)
    assert len(str(raised.value)) < 300


@pytest.mark.slow
def test_an_aligner_that_learnt_from_no_instruction_takes_none() -> None:
    """The shipped one is such a one; it says so here, behind the proxy, and before the proxy starts."""
    with pytest.raises(MisuseError, match="takes no instruction"):
        Aligner.from_pretrained("demo", device="cpu").correct("Why?", "So.", instruction="be brief")
    with pytest.raises(MisuseError, match="take no instruction"):
        Aligner.from_pretrained("echo:").correct("Why?", "So.", instruction="be brief")
    with pytest.raises(WireError, match="takes no instruction"):
        instruction_in({"objective": "code"}, [], "any", takes=False)

    async def run(aligner: str) -> None:
        async with proxied(aligner=aligner, device="cpu", objective="code"):
            pass

    for name in ("demo", "echo:"):
        with pytest.raises(MisuseError, match=f"{name} takes no instruction: train an Aligner on rows that have some"):
            asyncio.run(run(name))


def test_a_checkpoint_keeps_the_forms_that_were_learnt() -> None:
    """Control tokens must be learnt; plain words, and an instruction that is always told, need no rows of their own."""
    sealed, plain = TEMPLATES["sealed"], TEMPLATES["T4"]
    assert sealed.told("", learns=False).instructed == ""
    assert sealed.told("", learns=True) == sealed
    assert sealed.told(_CODE, learns=False) == replace(sealed, instruction=_CODE)
    assert plain.told("", learns=False) == plain


async def _sure(session: aiohttp.ClientSession, url: str, said: dict[str, Any], **headers: str) -> Any:
    """How sure the Aligner is of the answer with such a field of ours, or the status of an error."""
    stream, ours = said.pop("stream", False), {"report": True, **said}
    body = {"model": "m", "messages": _TURNS, "stream": stream, "aligner": ours}
    got = await ask(session, f"{url}/v1/chat/completions", orjson.dumps(body), **headers)
    if got.status != 200:
        return got.status
    told = [line.removeprefix(b"data: ") for line in got.body.splitlines() if b'"aligner"' in line]
    return orjson.loads(told[0])["aligner"]["choices"][0]["confidence"]


def test_every_aligner_of_a_proxy_is_told_its_own() -> None:
    """In words or by name; one that says nothing is told nothing."""
    named = (NamedAligner(name="a", aligner="echo:", objective="code"), NamedAligner(name="b", aligner="echo:"))
    config = ServeConfig(upstream="http://127.0.0.1:1/v1", instruction="be brief", aligners=named)
    check(config, {})
    told = {name: engine.options.instruction for name, engine in engines_of(config).items()}
    assert told == {"default": "be brief", "a": _CODE, "b": ""}


@pytest.mark.parametrize(
    "fields",
    [
        {"objective": "cod"},
        {"objective": "code", "instruction": "be brief"},
        {"aligners": (NamedAligner(name="a", aligner="echo:", objective="cod"),)},
        {"profile": "safety", "allow_instructions": "any"},
        {"profile": "safety", "allow_instructions": "objectives"},
    ],
)
def test_what_an_operator_cannot_mean_is_refused_before_anything_starts(fields: dict[str, Any]) -> None:
    """An objective that there is not, two things at once, also of a named Aligner, and safety at a client's word."""
    with pytest.raises(MisuseError, match=r"objective|could tell the Aligner to leave answers"):
        check(ServeConfig(upstream="http://127.0.0.1:1/v1", **fields), {})


def test_a_checkpoint_is_told_what_its_template_holds(checkpoint: str, tmp_path: Path) -> None:
    """A specialised Aligner does its own without being told, and something else where it is told that."""
    specialised = tiny_aligner(tmp_path, replace(TEMPLATES["sealed"], instruction=_CODE), context=512)
    aligner, general = (Aligner.from_pretrained(str(name), device="cpu") for name in (specialised, checkpoint))
    assert aligner.correct(_HISTORY, "So.").confidence == general.correct(_HISTORY, "So.", instruction=_CODE).confidence
    said = [each.correct(_HISTORY, "So.", instruction="be brief").confidence for each in (aligner, general)]
    assert said[0] == said[1]
    assert aligner.writer.fingerprint != general.writer.fingerprint


def test_the_guide_says_what_works(checkpoint: str, tmp_path: Path) -> None:
    """Its program runs, its rows are triples, and it names every objective."""
    guide = (Path(__file__).parent.parent / "docs" / "guides" / "conditioning.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert "path/to/checkpoint" in program
    (tmp_path / "program.py").write_text(program.replace("path/to/checkpoint", checkpoint), encoding="utf-8")
    runpy.run_path(str(tmp_path / "program.py"))
    (rows,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    told = [triple_of(orjson.loads(row)).instruction for row in rows.splitlines()]
    assert told == [OBJECTIVES[name].instruction for name in ("concise", "helpful")]
    assert all(f"`{name}`" in guide for name in OBJECTIVES)
