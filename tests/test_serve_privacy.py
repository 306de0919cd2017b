"""Laws of what is never told: no key, no question and no answer outside of what was asked to hold them."""

import asyncio
import os
import re
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from programs import Program, engine_of, running, until
from proxies import Got, ask

from aligner.config import ServeConfig
from aligner.testing import CORPUS, Upstream, by_model, serving
from aligner.testing.script import Asked, Chunk, Script

KEY = "sk-canary-of-the-client-7d1f"
OPERATOR = "sk-canary-of-the-operator-93ab"
THEIRS = "sk-canary-of-the-upstream-c04e"
PROMPT = "canary-prompt-5e21"
ANSWER = "canary-answer-b6c8"
COMMENT = "canary-comment-20fd"
SECRETS = tuple(secret.encode() for secret in (KEY, OPERATOR, THEIRS, PROMPT, ANSWER, COMMENT))


def found_in(data: bytes) -> list[bytes]:
    """The secrets in some bytes, as they are or spelt as UTF-16 or in hexadecimal digits."""
    spellings = {secret: (secret, secret.decode().encode("utf-16-le"), secret.hex().encode()) for secret in SECRETS}
    return [secret for secret, spelt in spellings.items() if any(one in data for one in spelt)]


def confiding(asked: Asked) -> Script:
    """The scripts by name, whose answers hold a secret."""
    script = by_model()(asked)
    if asked.path not in ("/v1/chat/completions", "/v1/completions"):
        return script
    chunks = tuple(Chunk(chunk.data.replace(b"Paris", ANSWER.encode()), chunk.pause) for chunk in script.chunks)
    headers = tuple((name, value) for name, value in script.headers if name != "content-length")
    return replace(script, chunks=chunks, headers=headers)


def confided(body: bytes) -> bytes:
    """A request of the corpus, whose question holds a secret."""
    payload = orjson.loads(body)
    if isinstance(payload.get("messages"), list):
        payload["messages"] = [{"role": "system", "content": PROMPT}, *payload["messages"], said(PROMPT)]
    elif isinstance(payload.get("prompt"), str):
        payload["prompt"] += PROMPT
    return orjson.dumps(payload)


def said(text: str) -> dict[str, str]:
    """A turn of the user."""
    return {"role": "user", "content": text}


def broken() -> list[bytes]:
    """Requests that are none, each with a secret where it is wrong."""
    whole = orjson.dumps({"model": "unchanged", "messages": [said(PROMPT)], "aligner": {"mode": PROMPT}})
    deep = b'{"messages":["%b"],"aligner":{},"x":%b}' % (PROMPT.encode(), b"[" * 300 + b"]" * 300)
    wrong: list[Any] = [
        [PROMPT],
        {"messages": PROMPT},
        {"messages": [PROMPT]},
        {"messages": [{"role": PROMPT, "content": PROMPT}]},
        {"messages": [], "stream": PROMPT},
        {"messages": [], "aligner": PROMPT},
        {"model": "unchanged", "messages": [{"role": "user", "content": {PROMPT: PROMPT}}]},
        {"model": "unchanged", "messages": [said(PROMPT)], "stop": {PROMPT: 1}, "n": PROMPT},
        {"question": PROMPT, "answer": [PROMPT]},
        {"id": PROMPT, "verdict": PROMPT},
    ]
    surrogate = b'{"messages":[{"role":"user","content":"%b\\ud800"}]}' % PROMPT.encode()
    cut = [whole[:-end] for end in (1, 5, 40)]
    return [*cut, whole, deep, surrogate, PROMPT.encode(), b'"\xff' + PROMPT.encode(), *map(orjson.dumps, wrong)]


def talkative() -> dict[str, Any]:
    """The settings under which a proxy says most."""
    return {"log_level": "debug"} if any(field.name == "log_level" for field in fields(ServeConfig)) else {}


async def everything(program: Program, upstream: Upstream) -> list[Got]:
    """Requests of every kind, right and wrong, and an Aligner that dies; what the proxy itself said about them."""
    gate = asyncio.Semaphore(8)
    paths = ["/v1/chat/completions", "/v1/completions", "/v1/aligner/correct", "/v1/aligner/feedback"]
    asked = [(entry.path, confided(entry.body)) for entry in CORPUS if entry.body and entry.path in paths[:2]]
    asked += [(path, body) for path in paths for body in broken()]
    feedback = {"id": "none", "verdict": "edit", "text": ANSWER, "comment": COMMENT}
    asked += [(paths[2], orjson.dumps({"question": PROMPT, "answer": ANSWER})), (paths[3], orjson.dumps(feedback))]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(path: str, body: bytes, key: str = OPERATOR, **headers: str) -> Got:
            async with gate, asyncio.timeout(30):
                return await ask(session, program.url + path, body, authorization=f"Bearer {key}", **headers)

        got = await asyncio.gather(*(one(path, body) for path, body in asked))
        got += [await one(paths[0], asked[0][1], KEY), await one(paths[0], asked[0][1], x_aligner_mode=KEY)]
        good = await one(paths[0], confided(next(e for e in CORPUS if e.name == "chat-unchanged").body))
        got.append(await one(paths[3], orjson.dumps({**feedback, "id": good.headers["x-aligner-id"]})))
        os.kill(await engine_of(program.pid), signal.SIGKILL)
        got += await asyncio.gather(*(one(path, body) for path, body in asked[:20]))
        metrics = await session.get(f"{program.url}/metrics", headers={"authorization": f"Bearer {OPERATOR}"})
        assert found_in(await metrics.read()) == []
    assert any(ANSWER.encode() in one.body for one in got), "the answers hold no secret"
    assert upstream.count > 50
    return [one for one in got if is_own(one)]


def is_own(got: Got) -> bool:
    """Whether it is an error that the proxy wrote itself: the scripted upstream says of each of its own that it is."""
    return got.status >= 400 and "openai-version" not in got.headers


@pytest.mark.parametrize("content", ["off", "hash"])
def test_nothing_tells_a_secret_that_it_was_not_asked_to_tell(tmp_path: Path, content: str) -> None:
    """No log line, no metric, no error of ours and no byte of the database holds a key, a question or an answer."""
    log = tmp_path / "log.db"

    async def run() -> tuple[list[Got], bytes]:
        upstream = Upstream(confiding)
        environ = {"ALIGNER_API_KEY": OPERATOR, "ALIGNER_UPSTREAM_KEY": THEIRS, "PYTHONASYNCIODEBUG": "1"}
        options = {"log": log, "log_content": content, "patience": 0.5, "profile": "safety", **talkative()}
        async with serving(upstream) as url, running(url, tmp_path, environ, **options) as program:
            own = await everything(program, upstream)
            assert all(call.asked.headers.get("authorization") == f"Bearer {THEIRS}" for call in upstream.calls)
            await until(lambda: count_of(log) > 20)
            # As it is while it is open, with what SQLite keeps beside it.
            data = b"".join((tmp_path / f"log.db{end}").read_bytes() for end in ("", "-wal", "-shm"))
        return own, data + log.read_bytes() + program.words.read_bytes()

    own, data = asyncio.run(run())
    assert len(own) > 20
    assert [(got.status, got.body) for got in own if found_in(got.body)] == []
    assert found_in(data) == []


def test_the_scan_finds_what_is_there(tmp_path: Path) -> None:
    """With all content logged, the same scan finds question and answer in the file, and still no key."""
    log = tmp_path / "log.db"

    async def run() -> None:
        async with (
            serving(Upstream(confiding)) as url,
            running(url, tmp_path, {"ALIGNER_API_KEY": OPERATOR}, log=log, log_content="full") as program,
            aiohttp.ClientSession() as session,
        ):
            body = confided(next(entry for entry in CORPUS if entry.name == "chat-unchanged").body)
            await ask(session, f"{program.url}/v1/chat/completions", body, authorization=f"Bearer {OPERATOR}")

    asyncio.run(run())
    assert found_in(log.read_bytes()) == [PROMPT.encode(), ANSWER.encode()]


@pytest.mark.slow
def test_a_database_that_fails_is_told_without_what_it_was_to_hold(tmp_path: Path) -> None:
    """While the log cannot be written, the lines that say so, and the errors of its routes, hold no secret."""
    log = tmp_path / "log.db"

    async def run() -> tuple[list[Got], Program]:
        async with (
            serving(Upstream(confiding)) as url,
            running(url, tmp_path, log=log, log_content="full", **talkative()) as program,
            aiohttp.ClientSession() as session,
        ):
            body = confided(next(entry for entry in CORPUS if entry.name == "chat-unchanged").body)
            with closing(sqlite3.connect(log)) as other:
                other.execute("BEGIN IMMEDIATE")
                good = await ask(session, f"{program.url}/v1/chat/completions", body, authorization=f"Bearer {KEY}")
                said = orjson.dumps({"id": good.headers["x-aligner-id"], "verdict": "edit", "text": ANSWER})
                got = [good, await ask(session, f"{program.url}/v1/aligner/feedback", said)]
                await until(lambda: "cannot be written" in program.said)
            return got, program

    got, program = asyncio.run(run())
    assert [one.status for one in got] == [200, 503]
    assert found_in(got[1].body) == []
    assert found_in(program.words.read_bytes()) == []


def count_of(log: Path) -> int:
    """The rows in the log."""
    with closing(sqlite3.connect(f"{log.absolute().as_uri()}?mode=ro", uri=True)) as database:
        return database.execute("SELECT count(*) FROM aligner_corrections").fetchone()[0]


ALL: Sequence[str] = [KEY, OPERATOR, THEIRS, PROMPT, ANSWER, COMMENT]


def test_secrets_are_told_apart() -> None:
    """None is part of another, so that what is found says which it is."""
    assert [len(re.findall(re.escape(one), " ".join(ALL))) for one in ALL] == [1] * len(ALL)
