"""An Aligner in LangChain: a middleware for agents, and a runnable around any chat model."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, cast

from aligner.integrations.remote import Corrector, Said, corrector_of, imported
from aligner.records import Exchange

_agents: Any = imported("langchain.agents.middleware", "aligner-llm[langchain]")
_messages: Any = imported("langchain_core.messages", "aligner-llm[langchain]")
_runnables: Any = imported("langchain_core.runnables", "aligner-llm[langchain]")

_FINISHES: Mapping[str, str] = {"max_tokens": "length", "MAX_TOKENS": "length", "end_turn": "stop", "STOP": "stop"}
"""What other vendors than OpenAI call it."""


class AlignerMiddleware(_agents.AgentMiddleware):
    """Corrects an agent's answer before it enters the state, under the same id; tool calls stay as they are.

    The Aligner is one in this process, the URL of a running `aligner serve`, or the name of a checkpoint. Raises what
    it raises.
    """

    def __init__(self, aligner: Corrector | str = "demo", *, key: str | None = None, seconds: float = 60.0) -> None:
        super().__init__()
        self._corrector = corrector_of(aligner, key=key, seconds=seconds)

    def after_model(self, state: Mapping[str, Any], runtime: Any) -> dict[str, Any] | None:
        """The state's last message, corrected; None where it stays."""
        exchange = _of_state(state)
        if exchange is None:
            return None
        return _replacing(state, exchange, self._corrector.correct(exchange.question, exchange.answer).text)

    async def aafter_model(self, state: Mapping[str, Any], runtime: Any) -> dict[str, Any] | None:
        """The same, while others go on."""
        exchange = _of_state(state)
        if exchange is None:
            return None
        correction = await self._corrector.acorrect(exchange.question, exchange.answer)
        return _replacing(state, exchange, correction.text)


class AlignerRunnable(_runnables.Runnable):
    """A chat model whose answers are corrected: `prompt | AlignerRunnable(model, aligner)`.

    It goes around the model and not behind it, since behind it the question is gone. A stream comes when the whole
    answer is there: the model's own chunks where nothing was changed, else one chunk.
    """

    def __init__(
        self, model: Any, aligner: Corrector | str = "demo", *, key: str | None = None, seconds: float = 60.0
    ) -> None:
        self._model = model
        self._corrector = corrector_of(aligner, key=key, seconds=seconds)

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: A002  # LangChain's own name
        """The model's message, corrected."""
        message = self._model.invoke(input, config, **kwargs)
        exchange = self._exchange(input, message, kwargs)
        return message if exchange is None else _with_text(message, exchange, self._correct(exchange))

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: A002
        """The same, while others go on."""
        message = await self._model.ainvoke(input, config, **kwargs)
        exchange = self._exchange(input, message, kwargs)
        return message if exchange is None else _with_text(message, exchange, await self._acorrect(exchange))

    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
        """The chunks of the corrected message."""
        chunks = list(self._model.stream(input, config, **kwargs))
        exchange = self._exchange(input, reduce(add, chunks), kwargs) if chunks else None
        yield from chunks if exchange is None else _chunks(chunks, exchange, self._correct(exchange))

    async def astream(self, input: Any, config: Any = None, **kwargs: Any) -> AsyncIterator[Any]:  # noqa: A002
        """The same, while others go on."""
        chunks = [chunk async for chunk in self._model.astream(input, config, **kwargs)]
        exchange = self._exchange(input, reduce(add, chunks), kwargs) if chunks else None
        for chunk in chunks if exchange is None else _chunks(chunks, exchange, await self._acorrect(exchange)):
            yield chunk

    def _correct(self, exchange: Exchange) -> str:
        return self._corrector.correct(exchange.question, exchange.answer).text

    async def _acorrect(self, exchange: Exchange) -> str:
        return (await self._corrector.acorrect(exchange.question, exchange.answer)).text

    def _exchange(self, given: Any, message: Any, kwargs: Mapping[str, Any]) -> Exchange | None:
        # What `model.bind(response_format=…)` keeps.
        bound = cast("Mapping[str, Any]", getattr(self._model, "kwargs", {}))
        return _exchange(_turns(given), message, {**bound, **kwargs}.get("response_format"))


def _of_state(state: Mapping[str, Any]) -> Exchange | None:
    """Question and answer at the end of an agent's messages; None where the last message stays as it is."""
    messages = cast("Sequence[Any]", state["messages"])
    if (
        not messages
        or not isinstance(messages[-1], _messages.AIMessage)
        or state.get("structured_response") is not None
    ):
        return None
    return _exchange(messages[:-1], messages[-1], None)


def _exchange(before: Sequence[Any], message: Any, response_format: object) -> Exchange | None:
    turns = cast("list[dict[str, Any]]", _messages.convert_to_openai_messages([*before, message]))
    extra = cast("Mapping[str, Any]", message.additional_kwargs)
    told = cast("Mapping[str, Any]", message.response_metadata)
    finish = str(told.get("finish_reason") or told.get("stop_reason") or "stop")
    # Calls that cannot be read are calls, too.
    calls = message.tool_calls or message.invalid_tool_calls
    choice = {"message": {**extra, **turns[-1], "tool_calls": calls}, "finish_reason": _FINISHES.get(finish, finish)}
    return Said({"messages": turns[:-1], "response_format": response_format}, choice).exchange


def _replacing(state: Mapping[str, Any], exchange: Exchange, text: str) -> dict[str, Any] | None:
    if text == exchange.answer:
        return None
    return {"messages": [_with_text(state["messages"][-1], exchange, text)]}


def _with_text(message: Any, exchange: Exchange, text: str) -> Any:
    """The message with another text, and the same id; the message itself where the text is the same."""
    if text == exchange.answer:
        return message
    # Of a content in parts, only one part was there: the others would have been left alone.
    parts = cast("object", message.content)
    content = text if isinstance(parts, str) else [{**cast("Any", parts)[0], "text": text}]
    return message.model_copy(update={"content": content})


def _chunks(chunks: Sequence[Any], exchange: Exchange, text: str) -> Sequence[Any]:
    return chunks if text == exchange.answer else [_with_text(reduce(add, chunks), exchange, text)]


def _turns(given: Any) -> Sequence[Any]:
    """What a chat model is given, as messages."""
    if isinstance(given, str):
        return [_messages.HumanMessage(given)]
    return cast("Sequence[Any]", given.to_messages() if hasattr(given, "to_messages") else given)
