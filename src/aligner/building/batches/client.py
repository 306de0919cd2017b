"""OpenAI's Batch API over HTTP: files up and down, batches made, found and looked at.

Source: OpenAI's API reference, "Files" and "Batch". Whatever may pass is tried again, but for making a batch: that
costs money, and whether it happened is not always known; the caller looks for it first.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import aiohttp
import orjson
import stamina

from aligner.errors import ModelError
from aligner.files.output import replacing
from aligner.models.reading import number_of, object_of, objects_of, text_of
from aligner.models.server import RefusedError, Server, TransientError, one_line, seconds_to_wait

T = TypeVar("T")

_LONGEST_WAIT = 3600.0
_PASSING = frozenset({408, 409, 425, 429})
_LIMITS = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=600.0)
_PAGE = 100
_TOKEN = "aligner"
_CURES: Mapping[int, str] = {
    401: "; set OPENAI_API_KEY to a key of this server",
    403: "; the key in OPENAI_API_KEY may not use batches",
    404: '; does this server have a Batch API? If not: calling = "live" or "files"',
}


class BatchProblem(NamedTuple):
    """Why a batch was not even begun; `line` counts from 1, 0 names none."""

    code: str
    message: str
    line: int


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the server tells of it."""

    id: str
    status: str
    """validating, failed, in_progress, finalizing, completed, expired, cancelling or cancelled"""
    token: str = ""
    """that it was sent with"""
    output: str = ""
    """the file of replies"""
    errors: str = ""
    """the file of requests that failed"""
    problems: tuple[BatchProblem, ...] = ()
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class BatchApi:
    """One server's files and batches; every failure is a ModelError of one line."""

    server: Server
    session: aiohttp.ClientSession = field(repr=False)
    attempts: int = 6

    async def upload(self, path: Path, name: str) -> str:
        """Send a file of requests, and give its id."""

        async def send() -> str:
            form = aiohttp.FormData({"purpose": "batch"})
            with path.open("rb") as file:
                form.add_field("file", file, filename=name, content_type="application/jsonl")
                async with self._asked("POST", "/files", data=form) as response:
                    return text_of((await self._named(response))["id"])

        return await self._tried(send)

    async def create(self, file: str, path: str, token: str) -> Batch:
        """Have a file's requests answered within a day, in one attempt.

        Only a RefusedError says that no batch was made; any other ModelError may hide one.
        """
        told = {"input_file_id": file, "endpoint": path, "completion_window": "24h", "metadata": {_TOKEN: token}}
        async with self._asked("POST", "/batches", json=told, headers={"Idempotency-Key": token}) as response:
            return _batch(await self._named(response))

    async def get(self, batch: str) -> Batch:
        """How far a batch is."""
        return _batch(await self._tried(partial(self._get, f"/batches/{quote(batch, safe='')}", {})))

    async def find(self, token: str) -> Batch | None:
        """The batch that was sent with a token, if the server has it."""
        async for batch in self.batches():
            if batch.token == token:
                return batch
        return None

    async def batches(self) -> AsyncIterator[Batch]:
        """All batches that the server lists, page by page."""
        after = ""
        while True:
            query = {"limit": str(_PAGE)} | ({"after": after} if after else {})
            page = await self._tried(partial(self._get, "/batches", query))
            found = [_batch(value) for value in objects_of(page.get("data"))]
            for batch in found:
                yield batch
            if not page.get("has_more") or not found or found[-1].id == after:
                return
            after = found[-1].id

    async def download(self, file: str, path: Path) -> None:
        """Fetch a file; it is there once it is whole."""

        async def fetch() -> None:
            async with self._asked("GET", f"/files/{quote(file, safe='')}/content") as response:
                with replacing(path) as out:
                    async for chunk in response.content.iter_any():
                        out.write(chunk)

        await self._tried(fetch)

    async def _get(self, path: str, query: Mapping[str, str]) -> Mapping[str, object]:
        async with self._asked("GET", path, params=query) as response:
            return await self._object(response)

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **options: Any
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        key = {"Authorization": f"Bearer {self.server.key}"} if self.server.key else {}
        call = partial(self.session.request, method, f"{self.server.url}{path}", timeout=_LIMITS, allow_redirects=False)
        try:
            async with call(headers={**key, **(headers or {})}, **options) as response:
                if not 200 <= response.status < 300:
                    raise await self._refusal(response)
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = one_line(str(error)) or type(error).__name__
            raise TransientError(f"{self.server.url}{path}: {reason}") from error

    async def _refusal(self, response: aiohttp.ClientResponse) -> ModelError:
        status, body = response.status, await response.content.read(2**16)
        line = str(self.server.error(f"status {status}{_CURES.get(status, '')}", body))
        if status < 500 and status not in _PASSING:
            return RefusedError(line, status)
        return TransientError(line, seconds_to_wait(response.headers.get("Retry-After"), datetime.now(UTC)))

    async def _object(self, response: aiohttp.ClientResponse) -> Mapping[str, object]:
        body = await response.content.read()
        try:
            return object_of(orjson.loads(body))
        except orjson.JSONDecodeError as error:
            raise self.server.error("status 200, but no valid JSON", body) from error

    async def _named(self, response: aiohttp.ClientResponse) -> Mapping[str, object]:
        found = await self._object(response)
        if not text_of(found.get("id")):
            raise self.server.error("status 200, but no id", orjson.dumps(found))
        return found

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        caller = stamina.AsyncRetryingCaller(
            attempts=self.attempts, timeout=None, wait_initial=0.5, wait_max=60.0, wait_jitter=1.0
        )
        return await caller(_wait, call)


def _wait(error: Exception) -> bool | float:
    """Whether to try again, and after how many seconds, in stamina's terms."""
    if not isinstance(error, TransientError):
        return False
    return True if error.wait is None else min(error.wait, _LONGEST_WAIT)


def _batch(value: Mapping[str, object]) -> Batch:
    counts = object_of(value.get("request_counts"))
    problems = objects_of(object_of(value.get("errors")).get("data"))
    return Batch(
        id=text_of(value.get("id")),
        status=text_of(value.get("status")),
        token=text_of(object_of(value.get("metadata")).get(_TOKEN)),
        output=text_of(value.get("output_file_id")),
        errors=text_of(value.get("error_file_id")),
        problems=tuple(
            BatchProblem(text_of(told.get("code")), text_of(told.get("message")), number_of(told.get("line")))
            for told in problems
        ),
        done=number_of(counts.get("completed")) + number_of(counts.get("failed")),
        total=number_of(counts.get("total")),
    )
