"""Middleware and runnable in the real LangChain, and its chat model as a caller of the proxy."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from environments import LANGCHAIN, python_of
from gateways import corrected, told

from aligner.testing.texts import EMOJI, PLAIN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LUTETIA = PLAIN.replace("Paris", "Lutetia")


def ran(folder: Path, code: str) -> Any:
    """What a script found, which is given the URLs of a correcting proxy and of the upstream."""

    async def run() -> Any:
        async with corrected(folder) as served:
            return await told(python_of("langchain", LANGCHAIN), _SETUP + code, served.url, served.upstream_url)

    return asyncio.run(run())


_SETUP = """
import asyncio, json, sys
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

served, upstream = sys.argv[1:]

def model(name, url=upstream):
    return ChatOpenAI(base_url=f"{url}/v1", api_key="k", model=name, max_retries=0)
"""

_AGENT = """
from langchain.agents import create_agent
from aligner.integrations.langchain import AlignerMiddleware

def agent(name):
    return create_agent(model(name), middleware=[AlignerMiddleware(served)])

def shown(state):
    return [(message.type, message.content) for message in state["messages"]]

asked = {"messages": [HumanMessage("Which is the capital?")]}
async def later():
    return await agent("unchanged").ainvoke(asked)

middleware = AlignerMiddleware(served)
answer = AIMessage("Paris", id="run-7")
(replaced,) = middleware.after_model({"messages": [*asked["messages"], answer]}, None)["messages"]
call = AIMessage("Paris", tool_calls=[{"name": "f", "args": {}, "id": "1"}])
wrong = AIMessage("Paris", invalid_tool_calls=[{"name": "f", "args": "{", "id": "1", "error": None}])
cut = AIMessage("Paris", response_metadata={"stop_reason": "max_tokens"})
parts = AIMessage([{"type": "text", "text": "Paris"}])
print(json.dumps({
    "agent": shown(agent("unchanged").invoke(asked)),
    "async": shown(asyncio.run(later())),
    "good": shown(agent("emoji").invoke(asked)),
    "same id": [replaced.id, replaced.content],
    "left": [middleware.after_model({"messages": [*asked["messages"], m]}, None) for m in (call, wrong, cut)],
    "read": middleware.after_model({"messages": [*asked["messages"], answer], "structured_response": {}}, None),
    "no answer": middleware.after_model(asked, None),
    "parts": middleware.after_model({"messages": [*asked["messages"], parts]}, None)["messages"][0].content,
    "torch": "torch" in sys.modules,
}))
"""


def test_an_agent_keeps_corrected_answers_in_its_state(tmp_path: Path) -> None:
    """In place of the model's, under the same id; tool calls, unfinished and structured answers stay."""
    asked = ["human", "Which is the capital?"]
    assert ran(tmp_path, _AGENT) == {
        "agent": [asked, ["ai", LUTETIA]],
        "async": [asked, ["ai", LUTETIA]],
        "good": [asked, ["ai", EMOJI]],
        "same id": ["run-7", "Lutetia"],
        "left": [None, None, None],
        "read": None,
        "no answer": None,
        "parts": [{"type": "text", "text": "Lutetia"}],
        "torch": False,
    }


_RUNNABLE = """
from langchain_core.output_parsers import StrOutputParser
from aligner.integrations.langchain import AlignerRunnable

prompt = ChatPromptTemplate.from_messages([("system", "Be short."), ("user", "{question}")])
asked = {"question": "Which is the capital?"}

def chain(name, **bound):
    llm = model(name)
    return prompt | AlignerRunnable(llm.bind(**bound) if bound else llm, served)

async def later():
    pieces = [chunk async for chunk in chain("unchanged").astream(asked)]
    return [(await chain("unchanged").ainvoke(asked)).content, "".join(p.content for p in pieces)]

def streamed(name):
    return [chunk.content for chunk in chain(name).stream(asked)]

tools = chain("tools").invoke(asked)
tool_stream = list(chain("tools").stream(asked))
whole = tool_stream[0]
for chunk in tool_stream[1:]:
    whole = whole + chunk
print(json.dumps({
    "invoke": chain("unchanged").invoke(asked).content,
    "parsed": (chain("unchanged") | StrOutputParser()).invoke(asked),
    "stream": "".join(streamed("unchanged")),
    "parsed stream": "".join((chain("unchanged") | StrOutputParser()).stream(asked)),
    "good": streamed("emoji") == [chunk.content for chunk in (prompt | model("emoji")).stream(asked)],
    "plain text": AlignerRunnable(model("unchanged"), served).invoke("Which?").content,
    "async": asyncio.run(later()),
    "tools": [len(tools.tool_calls), len(whole.tool_calls)],
    "json": chain("json", response_format={"type": "json_object"}).invoke(asked).content.count("Paris"),
    "json unbound": chain("json").invoke(asked).content.count("Paris"),
}))
"""


def test_a_chain_with_the_runnable_gives_corrected_answers(tmp_path: Path) -> None:
    """Whole and streamed, parsed or not; the chunks of a good answer are the model's own; tool calls and JSON stay."""
    assert ran(tmp_path, _RUNNABLE) == {
        "invoke": LUTETIA,
        "parsed": LUTETIA,
        "stream": LUTETIA,
        "parsed stream": LUTETIA,
        "good": True,
        "plain text": LUTETIA,
        "async": [LUTETIA, LUTETIA],
        "tools": [1, 1],
        "json": 1,
        "json unbound": 0,
    }


_CALLER = """
asked = [("user", "Which is the capital?")]
through = model("unchanged", served)
pieces = list(through.stream(asked))

async def later():
    return [(await through.ainvoke(asked)).content, "".join([c.content async for c in through.astream(asked)])]

print(json.dumps({
    "invoke": through.invoke(asked).content,
    "stream": "".join(piece.content for piece in pieces),
    "pieces": len(pieces) > 2,
    "async": asyncio.run(later()),
    "tools": len(model("tools", served).invoke(asked).tool_calls),
    "usage": through.invoke(asked).usage_metadata == model("unchanged").invoke(asked).usage_metadata,
}))
"""


def test_a_chat_model_of_langchain_reads_the_proxy(tmp_path: Path) -> None:
    """With nothing changed but the base URL, whole and streamed."""
    assert ran(tmp_path, _CALLER) == {
        "invoke": LUTETIA,
        "stream": LUTETIA,
        "pieces": True,
        "async": [LUTETIA, LUTETIA],
        "tools": 1,
        "usage": True,
    }
