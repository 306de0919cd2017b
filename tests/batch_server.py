"""A real server on loopback with OpenAI's Files and Batch API: statuses, output and error files, limits and troubles.

Checked field by field against the API reference ("Files", "Batch", "The request input object", "The request output
object") and the official client, openai 3.57.0, whose models parse all that it sends (tests/building/
test_batch_server.py): file objects (purpose `batch`, which expire after 30 days, and `batch_output`), batch objects
with all their times, `errors` with `line` from 1, `request_counts`, `usage`, `model`; list pages with `first_id`,
`last_id`, `has_more` and `after`, the newest first; the codes `batch_expired`, `batch_cancelled` and
`request_timeout` of lines without a response; 16 pairs of metadata, 64 and 512 characters; 50,000 requests and
200 MB. Codes of `errors` are those that OpenAI and Azure are seen to send; no list of them is published.
"""

import asyncio
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Fate = Literal["reply", "refuse", "too_long", "overload", "timeout", "lose", "tools", "expire"]
"""of one request: a reply; status 400, also for its length; status 500; no response in time; no line at all; a reply
without text; or its batch expires before it"""
KEY = "sk-test-batches"
DAY = 24 * 3600
_ENDED = ("completed", "failed", "expired", "cancelled")


class Problem(Exception):  # noqa: N818  # what the API calls an error object
    """An answer that says no."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code},
        }


class Stored(NamedTuple):
    """A file and its object."""

    about: dict[str, Any]
    content: bytes


@dataclass
class Behaviour:
    """What goes on behind the API."""

    seconds: float = 0.0
    """that a batch takes for each of validating, in_progress and finalizing"""
    latency: float = 0.0
    """seconds from what a call does to its answer"""
    fate: Callable[[dict[str, Any]], Fate] = field(default=lambda _: "reply")
    """of a line of an input file"""
    shuffle: int | None = None
    """seed of the order of results; they come as they were asked without it"""
    requests: int = 50_000
    size: int = 200_000_000
    queue: int | None = None
    """so many batches at a time; another fails with token_limit_exceeded"""
    troubles: Mapping[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    """for calls like "POST /v1/batches", one after the other: a status instead of an answer, or `lost`: it is done, and
    the answer is a status 500"""


@dataclass
class BatchServer:
    """The server, and what it was asked and paid for."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    url: str = ""
    paid: Counter[str] = field(default_factory=Counter[str])
    """how often each custom_id was answered and billed"""
    calls: Counter[str] = field(default_factory=Counter[str])
    files: dict[str, Stored] = field(default_factory=dict[str, Stored])
    batches: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    began: dict[str, float] = field(default_factory=dict[str, float])
    numbers: Iterator[int] = field(default_factory=itertools.count)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def app(self) -> Starlette:
        """Its routes."""
        routes = [
            ("POST", "/v1/files", self.upload),
            ("GET", "/v1/files", self.list_files),
            ("GET", "/v1/files/{id}", self.file),
            ("DELETE", "/v1/files/{id}", self.delete),
            ("GET", "/v1/files/{id}/content", self.content),
            ("POST", "/v1/batches", self.create),
            ("GET", "/v1/batches", self.list_batches),
            ("GET", "/v1/batches/{id}", self.batch),
            ("POST", "/v1/batches/{id}/cancel", self.cancel),
        ]
        return Starlette(
            routes=[Route(path, self._guarded(verb, path, do), methods=[verb]) for verb, path, do in routes]
        )

    def _guarded(self, verb: str, path: str, do: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            self.calls[f"{verb} {path}"] += 1
            troubles = self.behaviour.troubles.get(f"{verb} {path}", [])
            trouble = troubles.pop(0) if troubles else None
            try:
                _let_in(request, trouble)
                response = await do(request)
            except Problem as problem:
                return JSONResponse(problem.body, problem.status, headers={"retry-after": "0"})
            await asyncio.sleep(self.behaviour.latency)
            return Response("gateway", 500) if trouble else response

        return endpoint

    async def upload(self, request: Request) -> Response:
        """Take a file."""
        async with request.form() as form:
            file, purpose = form.get("file"), form.get("purpose")
            if file is None or isinstance(file, str):
                raise Problem(400, "'file' is a required property", param="file")
            if purpose != "batch":
                raise Problem(400, f"'{purpose}' is not one of ['batch']", param="purpose")
            if not (file.filename or "").endswith(".jsonl"):
                raise Problem(400, "Invalid file format for Batch API. Must be .jsonl", param="file")
            return JSONResponse(self._keep(file.filename or "", "batch", await file.read()).about)

    async def list_files(self, request: Request) -> Response:
        """Files, page by page."""
        purpose = request.query_params.get("purpose")
        found = [stored.about for stored in self.files.values() if purpose in (None, stored.about["purpose"])]
        return JSONResponse(_page(found[::-1], request, 10_000, 10_000))

    async def file(self, request: Request) -> Response:
        """One file's object."""
        return JSONResponse(self._file(request).about)

    async def content(self, request: Request) -> Response:
        """One file."""
        return Response(self._file(request).content, media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        """Remove a file."""
        id_ = self._file(request).about["id"]
        del self.files[id_]
        return JSONResponse({"id": id_, "object": "file", "deleted": True})

    async def create(self, request: Request) -> Response:
        """Begin a batch."""
        asked = await request.json()
        stored = self.files.get(asked.get("input_file_id"))
        if stored is None or stored.about["purpose"] != "batch":
            raise Problem(400, f"Invalid 'input_file_id': {asked.get('input_file_id')}", param="input_file_id")
        if asked.get("completion_window") != "24h":
            raise Problem(400, "Invalid value: 'completion_window' must be '24h'", param="completion_window")
        if asked.get("endpoint") != "/v1/chat/completions":
            raise Problem(400, f"Invalid value: {asked.get('endpoint')}", "invalid_value", "endpoint")
        metadata = asked.get("metadata") or {}
        if len(metadata) > 16 or any(len(name) > 64 or len(value) > 512 for name, value in metadata.items()):
            raise Problem(400, "Invalid 'metadata'", param="metadata")
        batch = self._new(asked, metadata)
        return JSONResponse(batch)

    async def list_batches(self, request: Request) -> Response:
        """Batches, page by page, the newest first."""
        return JSONResponse(_page([self._looked(id_) for id_ in reversed(self.batches)], request, 20, 100))

    async def batch(self, request: Request) -> Response:
        """How far a batch is."""
        return JSONResponse(self._looked(self._known(request)))

    async def cancel(self, request: Request) -> Response:
        """Stop a batch; what is done stays."""
        batch = self._looked(self._known(request))
        if batch["status"] not in ("validating", "in_progress", "finalizing"):
            raise Problem(409, f"Cannot cancel a batch with status '{batch['status']}'.")
        batch.update(status="cancelling", cancelling_at=_now())
        return JSONResponse(batch)

    def bill(self) -> Counter[str]:
        """What was paid for, once all batches have ended, also those that nobody looks at."""
        while any(self._looked(id_)["status"] not in _ENDED for id_ in list(self.batches)):
            time.sleep(0.01)
        return self.paid

    def _known(self, request: Request) -> str:
        id_ = request.path_params["id"]
        if id_ not in self.batches:
            raise Problem(404, f"No batch found with id '{id_}'.")
        return id_

    def _file(self, request: Request) -> Stored:
        id_ = request.path_params["id"]
        if id_ not in self.files:
            raise Problem(404, f"No such File object: {id_}", param="id")
        return self.files[id_]

    def _keep(self, name: str, purpose: str, content: bytes) -> Stored:
        about: dict[str, Any] = {
            "id": f"file-{next(self.numbers):06}",
            "object": "file",
            "bytes": len(content),
            "created_at": _now(),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
            "expires_at": _now() + 30 * DAY if purpose == "batch" else None,
        }
        self.files[about["id"]] = Stored(about, content)
        return self.files[about["id"]]

    def _new(self, asked: dict[str, Any], metadata: dict[str, str]) -> dict[str, Any]:
        times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        batch: dict[str, Any] = {
            "id": f"batch_{next(self.numbers):06}",
            "object": "batch",
            "endpoint": asked["endpoint"],
            "model": None,
            "errors": None,
            "input_file_id": asked["input_file_id"],
            "completion_window": "24h",
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": _now(),
            "expires_at": _now() + DAY,
            **{f"{name}_at": None for name in times},
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "usage": None,
            "metadata": metadata or None,
        }
        self.batches[batch["id"]] = batch
        self.began[batch["id"]] = time.monotonic()
        return batch

    def _looked(self, id_: str) -> dict[str, Any]:
        """A batch as it is by now."""
        batch, age, step = self.batches[id_], time.monotonic() - self.began[id_], self.behaviour.seconds
        with self.lock:
            if batch["status"] == "validating" and age >= step:
                self._validate(batch)
            if batch["status"] == "in_progress" and age >= 2 * step:
                batch.update(status="finalizing", finalizing_at=_now())
            if batch["status"] == "finalizing" and age >= 3 * step:
                self._finish(batch, "completed")
            if batch["status"] == "cancelling" and age >= 3 * step:
                self._finish(batch, "cancelled")
        return batch

    def _validate(self, batch: dict[str, Any]) -> None:
        content = self.files[batch["input_file_id"]].content
        errors = _errors(content, batch["endpoint"], self.behaviour)
        running = [other for other in self.batches.values() if other["status"] in ("in_progress", "finalizing")]
        if self.behaviour.queue is not None and len(running) >= self.behaviour.queue:
            errors = [_error("token_limit_exceeded", "Enqueued token limit reached", None)]
        if errors:
            batch.update(status="failed", failed_at=_now(), errors={"object": "list", "data": errors})
            return
        lines = [json.loads(line) for line in content.splitlines()]
        batch.update(status="in_progress", in_progress_at=_now(), model=lines[0]["body"]["model"])
        batch["request_counts"]["total"] = len(lines)

    def _finish(self, batch: dict[str, Any], status: str) -> None:
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].content.splitlines()]
        fates: list[Fate] = [self.behaviour.fate(line) for line in lines]
        if status == "completed" and "expire" in fates:
            status = "expired"
        results = [self._result(line, fate, status) for line, fate in zip(lines, fates, strict=True) if fate != "lose"]
        if self.behaviour.shuffle is not None:
            random.Random(self.behaviour.shuffle).shuffle(results)
        good = [result for result in results if (result["response"] or {}).get("status_code") == 200]
        bad = [result for result in results if result not in good]
        for name, found in (("output", good), ("error", bad)):
            if found:
                content = b"".join(json.dumps(result).encode() + b"\n" for result in found)
                kept = self._keep(f"{batch['id']}_{name}.jsonl", "batch_output", content)
                batch[f"{name}_file_id"] = kept.about["id"]
        counts = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        batch.update({"status": status, f"{status}_at": _now(), "request_counts": counts, "usage": _usage(good)})

    def _result(self, line: dict[str, Any], fate: Fate, status: str) -> dict[str, Any]:
        number = f"{next(self.numbers):06}"
        result = {"id": f"batch_req_{number}", "custom_id": line["custom_id"], "response": None, "error": None}
        if fate == "expire":
            code, said = {
                "expired": (
                    "batch_expired",
                    "This request could not be executed before the completion window expired.",
                ),
                "cancelled": ("batch_cancelled", "This request was cancelled with its batch."),
            }[status]
            return result | {"error": {"code": code, "message": said}}
        if fate == "timeout":
            return result | {"error": {"code": "request_timeout", "message": "The request timed out."}}
        status_code, body = _answer(line["body"], fate, number)
        if status_code == 200:
            self.paid[line["custom_id"]] += 1
        return result | {"response": {"status_code": status_code, "request_id": f"req_{number}", "body": body}}


def _let_in(request: Request, trouble: int | str | None) -> None:
    key = request.headers.get("authorization")
    if key != f"Bearer {KEY}":
        raise Problem(401, f"Incorrect API key provided: {key}", "invalid_api_key")
    if isinstance(trouble, int):
        raise Problem(trouble, "The server had an error while processing your request.")


def words_of(body: dict[str, Any]) -> str:
    """What the server answers to a request: the same in any batch, in any order."""
    return f"Reply to {body['messages'][-1]['content']}"


def _answer(body: dict[str, Any], fate: Fate, number: str) -> tuple[int, dict[str, Any]]:
    match fate:
        case "refuse":
            return 400, Problem(400, "Invalid value for 'temperature'", "invalid_value", "temperature").body
        case "too_long":
            said = "This model's maximum context length is 8 tokens."
            return 400, Problem(400, said, "context_length_exceeded", "messages").body
        case "overload":
            return 500, {"error": {"message": "overloaded", "type": "server_error", "param": None, "code": None}}
        case _:
            text = words_of(body)
            read, written = sum(len(turn["content"].split()) for turn in body["messages"]), len(text.split())
            message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
            if fate == "tools":
                message |= {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": {}}]}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
            return 200, {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "created": _now(),
                "model": body["model"],
                "choices": [choice],
                "usage": usage,
                "system_fingerprint": None,
            }


def _errors(content: bytes, endpoint: str, behaviour: Behaviour) -> list[dict[str, Any]]:
    """What a file must not be, line by line."""
    lines = content.splitlines()
    if not lines:
        return [_error("empty_file", "The input file is empty.", None)]
    if len(lines) > behaviour.requests or len(content) > behaviour.size:
        return [_error("too_many_tasks", f"The file is larger than {behaviour.requests} requests allow.", None)]
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        code = _wrong(line, endpoint, seen)
        if code:
            found.append(_error(code, f"Line {number} is not valid: {code}", number))
    return found


def _wrong(line: bytes, endpoint: str, seen: set[str]) -> str | None:
    try:
        asked = json.loads(line)
    except ValueError:
        return "invalid_json_line"
    if not asked.get("custom_id") or asked["custom_id"] in seen:
        return "duplicate_custom_id" if asked.get("custom_id") else "missing_required_parameter"
    seen.add(asked["custom_id"])
    if asked.get("method") != "POST" or asked.get("url") != endpoint:
        return "invalid_url" if asked.get("method") == "POST" else "invalid_method"
    body = asked.get("body") or {}
    return None if body.get("model") and body.get("messages") and "bad line" not in str(body) else "invalid_request"


def _error(code: str, message: str, line: int | None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": None, "line": line}


def _usage(results: list[dict[str, Any]]) -> dict[str, Any]:
    usages = [result["response"]["body"]["usage"] for result in results]
    read, written = (sum(usage[name] for usage in usages) for name in ("prompt_tokens", "completion_tokens"))
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }


def _page(found: list[dict[str, Any]], request: Request, usual: int, most: int) -> dict[str, Any]:
    limit = int(request.query_params.get("limit", usual))
    if not 1 <= limit <= most:
        raise Problem(400, f"Invalid 'limit': {limit}", param="limit")
    ids = [value["id"] for value in found]
    after = request.query_params.get("after")
    start = ids.index(after) + 1 if after in ids else 0
    page = found[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(found),
    }


def _now() -> int:
    return int(time.time())


@contextmanager
def serving(behaviour: Behaviour | None = None) -> Generator[BatchServer]:
    """The server in a thread of this process; `url` is its base URL."""
    served = BatchServer(behaviour or Behaviour())
    config = uvicorn.Config(served.app(), host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    served.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield served
    finally:
        server.should_exit = True
        thread.join(10)
