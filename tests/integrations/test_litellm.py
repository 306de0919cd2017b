"""The guardrail in the real LiteLLM: called by hand, and in its proxy."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import orjson
import pytest
from environments import LITELLM, python_of
from gateways import Served, corrected, told, variables

from aligner.testing.texts import EMOJI, OTHER, PLAIN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LUTETIA = PLAIN.replace("Paris", "Lutetia")
_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
}

_BY_HAND = """
import asyncio, json, sys
from litellm.types.utils import Choices, Message, ModelResponse
from aligner.integrations.litellm import AlignerGuardrail, UncorrectedError

url, rules = sys.argv[1:]
ASKED = {"messages": [{"role": "user", "content": "Where?"}]}

async def texts(guardrail, text, kind="response", finish="stop", tools=None):
    message = Message(content=text, role="assistant", tool_calls=tools)
    response = ModelResponse(choices=[Choices(index=0, message=message, finish_reason=finish)])
    given = {"texts": [text]}
    return (await guardrail.apply_guardrail(given, {**ASKED, "response": response}, kind, None))["texts"][0]

async def main():
    served = AlignerGuardrail(api_base=url, guardrail_name="aligner", event_hook="post_call")
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    found = {
        "response": await texts(served, "Paris"),
        "request": await texts(served, "Paris", "request"),
        "cut off": await texts(served, "Paris", finish="length"),
        "tools": await texts(served, "Paris", finish="tool_calls", tools=[call]),
        "torch": "torch" in sys.modules,
    }
    found["open"] = await texts(AlignerGuardrail(api_base="http://127.0.0.1:1"), "Paris")
    try:
        await texts(AlignerGuardrail(api_base="http://127.0.0.1:1", failing="closed"), "Paris")
    except UncorrectedError as error:
        found["closed"] = error.status_code
    print(json.dumps(found))

asyncio.run(main())
"""


def test_only_finished_answers_are_corrected_and_failing_is_chosen(tmp_path: Path) -> None:
    """By the real base class, in an environment without torch; with nobody listening, open and closed."""

    async def run() -> Any:
        async with corrected(tmp_path) as served:
            return await told(python_of("litellm", LITELLM), _BY_HAND, served.url, "", more=_QUIET)

    assert asyncio.run(run()) == {
        "response": "Lutetia",
        "request": "Paris",
        "cut off": "Paris",
        "tools": "Paris",
        "torch": False,
        "open": "Paris",
        "closed": 424,
    }


def _config(served: Served, guardrails: dict[str, Any]) -> bytes:
    """One model for each script of the upstream, and guardrails that are asked for by name."""
    params = {"api_base": f"{served.upstream_url}/v1", "api_key": "none"}
    models = ("unchanged", "n2", "tools", "tools-after-text", "length", "emoji")
    return orjson.dumps(  # which is YAML, too
        {
            "model_list": [
                {"model_name": name, "litellm_params": {"model": f"openai/{name}", **params}} for name in models
            ],
            "guardrails": [
                {
                    "guardrail_name": name,
                    "litellm_params": {
                        "guardrail": "aligner.integrations.litellm.AlignerGuardrail",
                        "mode": "post_call",
                        **given,
                    },
                }
                for name, given in guardrails.items()
            ],
            "general_settings": {"disable_spend_logs": True, "dangerously_permit_weak_or_unset_master_key": True},
        }
    )


@asynccontextmanager
async def gateway(folder: Path, config: bytes) -> AsyncGenerator[str, None]:
    """LiteLLM's own proxy, once it listens."""
    (folder / "config.yaml").write_bytes(config)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = python_of("litellm", LITELLM).with_name("litellm")
    options = ("--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port))
    with (folder / "litellm.txt").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            program, *options, env=variables(_QUIET), stdin=-3, stdout=out, stderr=out
        )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(180):
            while not await _alive(url):
                assert process.returncode is None, (folder / "litellm.txt").read_text()
                await asyncio.sleep(0.2)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _alive(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/health/liveliness") as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False


async def _asked(
    client: openai.AsyncOpenAI, model: str, *, streamed: bool, guardrail: str = "aligner", **more: Any
) -> list[tuple[str | None, str | None, int]]:
    """Text, finish reason and number of tool calls of each choice."""
    given: Any = {
        "model": model,
        "messages": [{"role": "user", "content": "Which is the capital?"}],
        "extra_body": {"guardrails": [guardrail]},
        **more,
    }
    if not streamed:
        made = await client.chat.completions.create(**given)
        return [(c.message.content, c.finish_reason, len(c.message.tool_calls or ())) for c in made.choices]
    found: dict[int, tuple[str, str | None, set[int]]] = {}
    async for chunk in await client.chat.completions.create(**given, stream=True):
        for choice in chunk.choices:
            text, finish, calls = found.get(choice.index, ("", None, set[int]()))
            calls |= {call.index for call in choice.delta.tool_calls or ()}
            found[choice.index] = (text + (choice.delta.content or ""), choice.finish_reason or finish, calls)
    return [(text or None, finish, len(calls)) for _, (text, finish, calls) in sorted(found.items())]


def test_the_proxy_of_litellm_sends_corrected_answers(tmp_path: Path) -> None:
    """Whole and streamed; tool calls, refusals, unfinished and good answers go through; failing is as configured."""
    down = {"api_base": "http://127.0.0.1:1"}

    async def run() -> None:
        async with corrected(tmp_path) as served:
            guardrails = {"aligner": {"api_base": served.url}, "open": down, "closed": {**down, "failing": "closed"}}
            async with (
                gateway(tmp_path, _config(served, guardrails)) as url,
                openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=2, timeout=60) as client,
            ):
                for streamed in (False, True):
                    assert await _asked(client, "unchanged", streamed=streamed) == [(LUTETIA, "stop", 0)]
                    assert await _asked(client, "unchanged", streamed=streamed, guardrail="open") == [
                        (PLAIN, "stop", 0)
                    ]
                    assert await _asked(client, "emoji", streamed=streamed) == [(EMOJI, "stop", 0)]
                    two = await _asked(client, "n2", streamed=streamed)
                    assert [text for text, _, _ in two] == [LUTETIA, OTHER.replace("Paris", "Lutetia")]
                    ((text, finish, calls),) = await _asked(client, "tools", streamed=streamed)
                    assert (text or None, finish, calls) == (None, "tool_calls", 1)
                    ((text, finish, _),) = await _asked(client, "length", streamed=streamed)
                    assert finish == "length"
                    assert text is not None
                    assert PLAIN.startswith(text)
                    before = served.upstream.count
                    with pytest.raises(openai.APIError):
                        await _asked(client, "unchanged", streamed=streamed, guardrail="closed")
                    assert served.upstream.count == before + 1  # the client does not try again

    asyncio.run(run())
