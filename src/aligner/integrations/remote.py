"""What other people's chains and gateways need of an Aligner: one that is served elsewhere, and which answers to leave.

Imports nothing heavy: a program that only talks to `aligner serve` needs aiohttp and orjson, and no torch.
"""

import asyncio
import http.client
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import orjson

from aligner.errors import MissingExtraError, MisuseError, ModelError
from aligner.records import Correction, Edit, Exchange, Question, as_messages
from aligner.serving.wire import Asked, answer_of, object_in, skip_reason


class Corrector(Protocol):
    """Whatever corrects one answer: an `Aligner` in this process, or a `RemoteAligner`."""

    def correct(self, question: Question, answer: str) -> Correction:
        """The correction; raises a RuntimeError, such as ModelError, where there is none."""
        ...

    async def acorrect(self, question: Question, answer: str) -> Correction:
        """The same, while others go on."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteAligner:
    """The Aligner behind a running `aligner serve`, as if it were in this process.

    Raises ModelError where it is down, slow, or cannot correct that answer, and MisuseError where the URL or the key
    is wrong: that is no failure that may pass an answer on as it is.
    """

    url: str
    """of the server, with or without /v1"""
    key: str | None = field(default=None, repr=False)
    """what the server knows as ALIGNER_API_KEY"""
    seconds: float = 60.0
    """that one correction may take"""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MisuseError(f'"{self.url}" is not like http://127.0.0.1:8080')

    def correct(self, question: Question, answer: str) -> Correction:
        """The correction of one answer."""
        parts = urlsplit(self._place)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=self.seconds)
        try:
            connection.request("POST", parts.path, _body(question, answer), self._headers)
            reply = connection.getresponse()
            status, body = reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        return self._read(Exchange(question, answer), status, body)

    async def acorrect(self, question: Question, answer: str) -> Correction:
        """The same, while others go on."""
        import aiohttp

        # A session belongs to one event loop and has to be closed in it; a connection costs little beside a correction.
        try:
            async with (
                asyncio.timeout(self.seconds),
                aiohttp.ClientSession() as session,
                session.post(self._place, data=_body(question, answer), headers=self._headers) as reply,
            ):
                status, body = reply.status, await reply.read()
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error
        return self._read(Exchange(question, answer), status, body)

    @property
    def _place(self) -> str:
        return self.url.rstrip("/").removesuffix("/v1") + "/v1/aligner/correct"

    @property
    def _headers(self) -> dict[str, str]:
        given = {"content-type": "application/json"}
        return given if self.key is None else {**given, "authorization": f"Bearer {self.key}"}

    def _unreachable(self, error: Exception) -> ModelError:
        return ModelError(f"{self._place}: {str(error) or 'no answer in time'} (is `aligner serve` running there?)")

    def _read(self, exchange: Exchange, status: int, body: bytes) -> Correction:
        found = object_in(body)
        if status != 200:
            said = cast("Mapping[str, Any]", found.get("error") or {}).get("message") or f"status {status}"
            # A question that is too long is the answer's own trouble; a wrong key or path is the operator's.
            kind = MisuseError if status in (401, 403, 404, 405) else ModelError
            raise kind(f"{self._place}: {said}")
        text = found.get("correction")
        if not isinstance(text, str):
            raise ModelError(f'{self._place}: no "correction" in what it answered')
        return Correction(
            exchange=exchange,
            text=text,
            edits=tuple(Edit(*edit) for edit in found.get("edits") or ()),
            kept_reason=found.get("kept_reason"),
            confidence=found.get("confidence"),
        )


def corrector_of(aligner: Corrector | str, *, key: str | None = None, seconds: float = 60.0) -> Corrector:
    """The corrector itself, or that of a server's URL, or the Aligner that is loaded under another name."""
    if not isinstance(aligner, str):
        return aligner
    if aligner.startswith(("http://", "https://")):
        return RemoteAligner(aligner, key, seconds)
    from aligner.correct import Aligner

    return Aligner.from_pretrained(aligner)


@dataclass(frozen=True, slots=True)
class Said:
    """A request in OpenAI's shape, and one choice of what was answered, by the proxy's own rules."""

    request: Mapping[str, Any]
    choice: Mapping[str, Any]

    @property
    def exchange(self) -> Exchange | None:
        """Question and answer; None where the answer is left as it is, for whatever reason."""
        route = "chat" if "messages" in self.request else "completions"
        asked, choice = Asked(route, dict(self.request), {}, b""), dict(self.choice)
        if skip_reason(asked, choice, truncated=False, json=False):
            return None
        question, answer = asked.question(choice.get("index") or 0), answer_of(route, choice)
        return None if question is None or answer is None else Exchange(question, answer)


def imported(module: str, package: str) -> Any:
    """A module of a package that is not one of ours; raises MissingExtraError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtraError(f"{module} is not installed: pip install '{package}'") from error


def _body(question: Question, answer: str) -> bytes:
    turns = [{"role": message.role, "content": message.content} for message in as_messages(question)]
    return orjson.dumps({"messages": turns, "answer": answer})
