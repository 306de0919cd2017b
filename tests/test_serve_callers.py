"""The proxy as `curl -N -i` sees it: the smoke set that anybody can run by hand."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from gateways import Served, corrected

from aligner.testing.texts import PLAIN

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")

LUTETIA = PLAIN.replace("Paris", "Lutetia")
_CHAT: dict[str, Any] = {"model": "unchanged", "messages": [{"role": "user", "content": "Which is the capital?"}]}
_TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


class Shown(NamedTuple):
    """What curl printed."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """The objects of a stream, which has to end as streams do."""
        assert self.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in self.body.split(b"\n\n") if line and not line.startswith(b":")]
        assert lines[-1] == b"data: [DONE]"
        return [orjson.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]


async def curl(url: str, *options: str, body: bytes | None = None) -> Shown:
    """`curl -N -i` of a URL; a body goes in by standard input."""
    given = () if body is None else ("--data-binary", "@-", "-H", "content-type: application/json")
    command = ("curl", "-sS", "-N", "-i", "--noproxy", "*", "--max-time", "30", "-H", "Expect:", *given, *options, url)
    process = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-1, stderr=-1)
    out, err = await process.communicate(body)
    assert out, err.decode()
    head, _, rest = out.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Shown(int(first.split()[1]), headers, rest)


def chat(**fields: Any) -> bytes:
    """The body of a request."""
    return orjson.dumps({**_CHAT, **fields})


@asynccontextmanager
async def chats(folder: Path) -> AsyncGenerator[tuple[Served, str], None]:
    """A correcting proxy, and the address of its chats."""
    async with corrected(folder, heartbeat=0.2) as served:
        yield served, f"{served.url}/v1/chat/completions"


def _texts(events: list[dict[str, Any]]) -> list[str]:
    found: dict[int, str] = {}
    for event in events:
        for choice in event["choices"]:
            found[choice["index"]] = found.get(choice["index"], "") + (choice["delta"].get("content") or "")
    return [found[index] for index in sorted(found)]


def test_answers_come_corrected_whole_and_streamed(tmp_path: Path) -> None:
    """With usage, two choices, log-probabilities, tools and JSON mode, of which the last two stay as they were."""

    async def run() -> None:
        async with chats(tmp_path) as (_, url):
            whole = orjson.loads((await curl(url, body=chat())).body)
            assert whole["choices"][0]["message"]["content"] == LUTETIA
            shown = await curl(url, body=chat(stream=True, stream_options={"include_usage": True}))
            assert _texts(shown.events) == [LUTETIA]
            assert (shown.events[-1]["choices"], shown.events[-1]["usage"]["total_tokens"] > 0) == ([], True)
            assert shown.headers["cache-control"] == "no-cache, no-transform"
            assert shown.headers["x-accel-buffering"] == "no"
            assert not any(event.get("usage") for event in (await curl(url, body=chat(stream=True))).events)
            two = await curl(url, body=chat(stream=True, n=2))
            assert [("Lutetia" in text, "Paris" in text) for text in _texts(two.events)] == [(True, False)] * 2
            probable = await curl(url, body=chat(logprobs=True))
            assert orjson.loads(probable.body)["choices"][0]["logprobs"] is None
            tools = await curl(url, body=chat(model="tools", tools=[_TOOL]))
            assert orjson.loads(tools.body)["choices"][0]["finish_reason"] == "tool_calls"
            assert tools.headers["x-aligner-skipped"] == "tool_calls"
            json = await curl(url, body=chat(model="json", response_format={"type": "json_object"}))
            assert b"Paris" in json.body
            assert json.headers["x-aligner-skipped"] == "json"

    asyncio.run(run())


def test_bad_requests_are_told_so(tmp_path: Path) -> None:
    """Bad JSON and 11 MB, in OpenAI's shape."""

    async def run() -> None:
        async with chats(tmp_path) as (_, url):
            for body, status in ((b'{"model": ', 400), (b" " * (11 * 2**20), 413)):
                shown = await curl(url, body=body)
                assert shown.status == status
                assert set(orjson.loads(shown.body)["error"]) >= {"message", "type", "param", "code"}

    asyncio.run(run())


def test_the_other_routes_answer(tmp_path: Path) -> None:
    """Models, metrics and both kinds of health."""

    async def run() -> None:
        async with chats(tmp_path) as (served, _):
            models = await curl(f"{served.url}/v1/models")
            assert "unchanged" in {model["id"] for model in orjson.loads(models.body)["data"]}
            for path in ("/metrics", "/healthz", "/readyz"):
                assert (await curl(served.url + path)).status == 200

    asyncio.run(run())


def test_ctrl_c_in_a_stream_reaches_the_upstream(tmp_path: Path) -> None:
    """Within a second after curl is gone, the upstream sees its own request broken off."""

    async def run() -> None:
        async with chats(tmp_path) as (served, url):
            body = chat(model="long@20", stream=True).decode()
            process = await asyncio.create_subprocess_exec(
                "curl", "-sSN", "--noproxy", "*", "-d", body, url, stdout=-1, stderr=-1
            )
            assert process.stdout is not None
            await process.stdout.readuntil(b": aligner")  # held until it is whole
            process.send_signal(2)
            await process.communicate()
            async with asyncio.timeout(1):
                while served.upstream.calls[-1].gone is None:  # noqa: ASYNC110  # nothing tells of it
                    await asyncio.sleep(0.02)
            assert process.returncode != 0

    asyncio.run(run())
