"""A guardrail for LiteLLM that corrects what models answer; with an Aligner that is served elsewhere, without torch."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from aligner.errors import MisuseError, ModelError
from aligner.integrations.remote import Corrector, Said, corrector_of, imported
from aligner.serving.wire import joined

_guardrail: Any = imported("litellm.integrations.custom_guardrail", "litellm")

Failing = Literal["open", "closed"]


class UncorrectedError(ModelError):
    """An answer that could not be corrected, and may not be sent as it is."""

    # What LiteLLM answers with. The upstream was paid; with 503, and a header that says not to try again, the client of
    # a stream still asked it three times.
    status_code = 424


class AlignerGuardrail(_guardrail.CustomGuardrail):
    """Corrects the answers of chat and text completions; requests, tool calls and other answers stay as they are.

    Where the answer cannot be corrected, `failing` says whether it is sent as it is, with a line in the log of
    `aligner`, or UncorrectedError is raised. Raises MisuseError where neither or both of `api_base` and `aligner` are
    given.
    """

    # LiteLLM's own ways with a stream: without these it drops whatever a guardrail has changed.
    streaming_transform_mode = "incremental_diff"
    streaming_end_of_stream_only = True

    def __init__(
        self,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        aligner: Corrector | str | None = None,
        failing: Failing = "open",
        timeout: float | None = None,
        **given: Any,
    ) -> None:
        """The base URL and key of a running `aligner serve`, or an Aligner in this process; the rest is LiteLLM's."""
        if (aligner is None) == (api_base is None):
            raise MisuseError("a guardrail needs api_base, the URL of `aligner serve`, or aligner, a checkpoint")
        if failing not in ("open", "closed"):
            raise MisuseError(f'failing is "open" or "closed", not "{failing}"')
        super().__init__(timeout=timeout, **given)
        source = aligner if aligner is not None else cast("str", api_base)
        self._corrector = corrector_of(source, key=api_key, seconds=timeout or 60.0)
        self._failing: Failing = failing

    async def apply_guardrail(
        self,
        inputs: dict[str, Any],
        request_data: dict[str, Any],
        input_type: Literal["request", "response"],
        logging_obj: Any = None,
    ) -> dict[str, Any]:
        """The inputs of a response with its texts corrected, each on its own; those of a request as they are."""
        texts = cast("list[str]", inputs.get("texts") or [])
        if input_type != "response" or not texts:
            return inputs
        said = _said(request_data, texts)
        corrected = await asyncio.gather(*(self._corrected(text, of) for text, of in zip(texts, said, strict=True)))
        return {**inputs, "texts": corrected}

    async def _corrected(self, text: str, said: Said | None) -> str:
        exchange = said.exchange if said is not None else None
        if exchange is None:
            return text
        try:
            return (await self._corrector.acorrect(exchange.question, exchange.answer)).text
        except RuntimeError as error:  # a ModelError, or memory that ran out in this process
            if self._failing == "closed":
                raise UncorrectedError(f"the answer could not be corrected: {error}") from error
            logging.getLogger("aligner").critical("an answer was sent uncorrected: %s", error)
            return text


def _said(request: Mapping[str, Any], texts: Sequence[str]) -> list[Said | None]:
    """For each text the choice that it is the whole text of; None where that is not to be told."""
    named = [choice for choice in _choices(request) if isinstance(_text(choice), str)]
    if [_text(choice) for choice in named] != list(texts):
        return [None] * len(texts)
    return [Said(request, choice) for choice in named]


def _choices(request: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The choices of the response that LiteLLM has put beside the request, whole or in chunks."""
    chunks = cast("Iterable[Any] | None", request.get("responses"))
    if chunks is not None:
        return _finished(joined(_plain(choice) for chunk in chunks for choice in getattr(chunk, "choices", None) or ()))
    return [_plain(choice) for choice in getattr(request.get("response"), "choices", None) or ()]


def _finished(choices: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The choices of a stream that is over: LiteLLM passes on only one finish reason, whichever choice it was of."""
    finish = next((choice["finish_reason"] for choice in choices if choice["finish_reason"]), None)
    return [{**choice, "finish_reason": choice["finish_reason"] or finish} for choice in choices]


def _text(choice: Mapping[str, Any]) -> Any:
    return cast("Mapping[str, Any]", choice.get("message") or {}).get("content", choice.get("text"))


def _plain(choice: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", choice.model_dump())
