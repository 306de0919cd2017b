"""A build whose answers people correct, and `aligner build review` as a process of its own that may be killed."""

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from aligner.building import annotating, principles
from aligner.building.ledger import Ledger
from aligner.building.nouns import Answered, Asked, Reply, Request, id_of, key_of, order_of
from aligner.building.store import Store
from aligner.building.workers import Worker
from aligner.config.building import BuildAnnotator, BuildConfig, BuildReview
from aligner.records import Question, SamplingParams

PEOPLE = BuildAnnotator(name="people", model="human:")
_SECONDS = 60.0
_PROGRAM = """
import sys
from pathlib import Path
import orjson
from aligner.building.reviewing import serve
from reviewing_people import config_of
serve(config_of(Path(sys.argv[1]), **orjson.loads(sys.argv[2])))
"""


def config_of(folder: Path, **review: Any) -> BuildConfig:
    """A build with people as its annotator; by default every answer is corrected once, and nothing is inspected."""
    given: dict[str, Any] = {"port": 0, "twice": 0.0, "inspected": 0.0, **review}
    if given.get("keys"):
        given["keys"] = Path(given["keys"])
    return BuildConfig(out=folder, annotators=(PEOPLE,), review=BuildReview(**given))


def fill(folder: Path, exchanges: Sequence[tuple[Question, str]], *, seed: int = 0) -> list[str]:
    """A store in which people are asked to correct these answers; the keys of the requests, in their order."""
    held = principles.load(("harmless",))
    requests: list[Request] = []
    with Store(folder / "build.sqlite") as store, Worker(folder) as worker:
        for number, (question, answer) in enumerate(exchanges):
            asked = Asked(id=id_of("question", str(question)), question=question, source="test", place=f"test:{number}")
            answered = Answered(
                id=id_of("answer", asked.id, "upstream", number),
                question=asked.id,
                upstream="upstream",
                sample=number,
                key=f"answer {number}",
                text=answer,
            )
            store.add_questions([asked])
            store.add_answers([answered])
            messages = annotating.request_messages("ours", question, answer, held)
            requests.append(
                Request(
                    key=key_of("people", messages, SamplingParams(), "ours", number),
                    stage="corrections",
                    model="people",
                    messages=messages,
                    about=answered.id,
                    order=order_of(seed, answered.id),
                )
            )
        Ledger(store, worker).add(requests)
    return [each.key for each in sorted(requests, key=lambda each: (each.order, each.key))]


def replies(folder: Path, keys: Sequence[str]) -> Mapping[str, Reply]:
    """What people have sent for these requests, as the build reads it."""
    with Store(folder / "build.sqlite") as store, Worker(folder) as worker:
        ledger = Ledger(store, worker)
        return {key: reply for key in keys if (reply := ledger.reply(key)) is not None}


def understood(folder: Path, key: str) -> annotating.Understood:
    """One of them, as the build understands it."""
    with Store(folder / "build.sqlite") as store, Worker(folder) as worker:
        ledger = Ledger(store, worker)
        (request,) = [
            each
            for state in ("todo", "leased", "done", "failed")
            for each in ledger.requests("corrections", model="people", state=state)
            if each.key == key
        ]
        reply = ledger.reply(key)
        assert reply is not None
        assert reply.way == "human"
        found = annotating.read("ours", store.answer(request.about).text, reply)
    assert isinstance(found, annotating.Understood), found
    return found


@dataclass
class Reviewed:
    """A server, and where it listens."""

    folder: Path
    review: dict[str, Any]
    process: asyncio.subprocess.Process | None = None
    url: str = ""
    said: list[str] = field(default_factory=list)

    async def start(self) -> None:
        """Start it, on the port that it had before."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _PROGRAM,
            str(self.folder),
            orjson.dumps(self.review).decode(),
            stderr=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parent,
        )
        assert self.process.stderr is not None
        async with asyncio.timeout(_SECONDS):
            while line := (await self.process.stderr.readline()).decode():
                self.said.append(line)
                if found := re.search(r"aligner build review: (http://[^/]+:(\d+))/", line):
                    self.url, self.review["port"] = found[1], int(found[2])
                    return
        raise AssertionError("".join(self.said))

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """Tell it to end; its exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def reviewed(folder: Path, **review: Any) -> AsyncGenerator[Reviewed, None]:
    """`aligner build review` on the build of that folder."""
    served = Reviewed(folder, review)
    await served.start()
    try:
        yield served
    finally:
        await served.kill()
