"""A Batch API as a way to get replies: files written, sent, looked at and collected, by the same command again."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from aligner.building.batches.client import Batch, BatchApi, BatchProblem
from aligner.building.batches.collecting import Collected, collect
from aligner.building.batches.endpoints import BatchEndpoint, Progress, Say
from aligner.building.batches.lines import Terms, short
from aligner.building.batches.locking import alone
from aligner.building.batches.register import BatchFile, Register
from aligner.building.batches.submitting import submit
from aligner.building.batches.writing import write_files
from aligner.building.ledger import Ledger
from aligner.building.nouns import Failure, Fault, Stage
from aligner.building.spending import Purse
from aligner.errors import ModelError, visible
from aligner.models.server import RefusedError, one_line

_ENDED = frozenset({"completed", "expired", "cancelled"})
_GONE = frozenset({404, 410})
_LOOKS = 10
"""until a file that there was no room for is sent again, unless another batch ends before"""
_FULL = frozenset({"token_limit_exceeded", "rate_limit_exceeded", "batch_limit_exceeded"})
"""codes of batches that were not begun since too many are waiting: OpenAI's and Azure's"""


def run(ledger: Ledger, stage: Stage, endpoint: BatchEndpoint, folder: Path, purse: Purse, say: Say) -> Progress:
    """Send what is todo, collect what has come, and say how far it is; see `run_async`."""
    return asyncio.run(run_async(ledger, stage, endpoint, folder, purse, say))


async def run_async(
    ledger: Ledger, stage: Stage, endpoint: BatchEndpoint, folder: Path, purse: Purse, say: Say
) -> Progress:
    """Put the requests of one endpoint through its Batch API, until all are collected or `wait` seconds are over.

    Killed at any moment and run again, no request is paid twice and none is lost. Requests of an expired batch fail as
    `expired`, those that the server lost as `transient`: reopened in the ledger, the next run sends them again. One
    process at a time; another only sees how far it is. Raises ModelError where the server refuses a whole file.
    """
    with Register(ledger.store.path) as register, alone(folder) as is_alone:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=4)) as session:
            api = BatchApi(endpoint.server, session, endpoint.attempts)
            work = _Work(ledger, register, api, stage, endpoint, folder, say)
            return await work.until_done(purse) if is_alone else work.progress()


def waiting(ledger: Ledger, stage: Stage, name: str) -> int:
    """How many requests of an upstream or annotator are in batch files that were not collected."""
    with Register(ledger.store.path) as register:
        return register.waiting(register.open_files(stage, name)).calls


@dataclass(slots=True)
class _Work:
    """One run over the batches of an endpoint."""

    ledger: Ledger
    register: Register
    api: BatchApi
    stage: Stage
    endpoint: BatchEndpoint
    folder: Path
    say: Say
    done: int = 0
    failed: int = 0
    told: dict[int, str] = field(default_factory=dict[int, str])
    """the status of each batch that was said last"""
    later: dict[int, float] = field(default_factory=dict[int, float])
    """numbers of files that the server had no room for, and when they are sent again, in seconds"""

    async def until_done(self, purse: Purse) -> Progress:
        deadline = time.monotonic() + self.endpoint.wait
        while True:
            while await self._round(purse):
                pass
            progress = self.progress()
            left = deadline - time.monotonic()
            if not progress.waiting or left <= 0:
                return progress._replace(unpaid=progress.todo > 0 and purse.max_cost is not None)
            await asyncio.sleep(min(self.endpoint.poll, left))

    def progress(self) -> Progress:
        files = self._open()
        waiting = self.register.waiting(files)
        todo = self.ledger.state(self.stage, [self.endpoint.name]).todo - waiting.todo
        return Progress(max(0, todo), waiting.calls, self.done, self.failed, len(files))

    async def _round(self, purse: Purse) -> bool:
        """Take all files as far as they go now; says whether requests were given free that can be sent at once."""
        # What was sent may have been paid: it is found and collected before anything new is spent.
        freed = [await self._step(file) for file in self._open() if file.state != "written"]
        if self.endpoint.prices.are_nothing or purse.unspent() > 0:
            self._write(purse)
            freed += [await self._step(file) for file in self._open() if file.state == "written"]
        return any(freed)

    def _write(self, purse: Purse) -> None:
        if purse.left() < 0:
            # Files of an earlier run with more to spend.
            for file in self._open():
                if file.state == "written":
                    self.register.close(file)
                    (self.folder / file.file).unlink(missing_ok=True)
        write_files(self.ledger, self.register, self.stage, self.endpoint, self.folder, purse.left())

    def _open(self) -> list[BatchFile]:
        return self.register.open_files(self.stage, self.endpoint.name)

    async def _step(self, file: BatchFile) -> bool:
        """Take a file as far as it goes now; says whether it gave requests free."""
        if time.monotonic() < self.later.get(file.number, 0.0):
            return False
        if file.state != "running":
            sent = await submit(self.api, self.register, self.endpoint, file, self.folder)
            if sent is None:
                # Nothing of it was asked: what it held goes into another file.
                self.register.close(file)
                return True
            file = sent
            self.say(f"{self.endpoint.name}: {file.file} was sent as {visible(file.batch)}")
        try:
            batch = await self.api.get(file.batch)
        except RefusedError as error:
            if error.status not in _GONE:
                raise
            # A server that lists batches is one; at a wrong address this raises, and nothing is asked again.
            found = await self.api.find(file.token)
            if found is None:
                self.say(f"{self.endpoint.name}: the batch of {file.file} is gone from the server: {error}")
            batch = found or Batch(file.batch, "expired")
        if batch.status in _ENDED or (batch.status == "failed" and (batch.output or batch.errors)):
            await self._collect(file, batch)
            return False
        if batch.status == "failed":
            return self._refused(file, batch)
        if self.told.get(file.number) != batch.status:
            self.told[file.number] = batch.status
            how_far = f"{visible(batch.status)}, {batch.done:,} of {batch.total:,} done"
            self.say(f"{self.endpoint.name}: {file.file} is {how_far}")
        return False

    async def _collect(self, file: BatchFile, batch: Batch) -> None:
        results = [await self._fetched(file, "out", batch.output), await self._fetched(file, "err", batch.errors)]
        keys = self.register.keys(file.number)
        collected = collect(self.ledger, keys, results, Terms(self.endpoint.prices, "batch", self.api.server.key))
        fault: Fault = "transient" if batch.status == "completed" else "expired"
        lost = Failure(fault, f"batch {one_line(batch.id)} is {batch.status}, without a line about it")
        for key in collected.left:
            self.ledger.put(key, lost)
        self.register.close(file)
        self.later.clear()
        self._count(file, batch.status, collected)

    async def _fetched(self, file: BatchFile, ending: str, id_: str) -> Path:
        """The file of results on this machine, which is not there where the server has none."""
        path = (self.folder / file.file).with_suffix(f".{ending}.jsonl")
        if id_ and not path.exists():
            try:
                await self.api.download(id_, path)
            except RefusedError as error:
                if error.status not in _GONE:
                    raise
                self.say(f"{self.endpoint.name}: results of {file.file} are gone from the server: {error}")
        return path

    def _count(self, file: BatchFile, status: str, collected: Collected) -> None:
        failed = collected.failed + len(collected.left)
        self.done, self.failed = self.done + collected.done, self.failed + failed
        strange = f", {collected.strange:,} lines about nothing that was asked" if collected.strange else ""
        self.say(
            f"{self.endpoint.name}: {file.file} is {status}: {collected.done:,} replies, {failed:,} failed{strange}"
        )

    def _refused(self, file: BatchFile, batch: Batch) -> bool:
        """Take back a batch that was never begun, of which nothing was paid; says whether requests were given free."""
        if batch.problems and all(problem.code in _FULL for problem in batch.problems):
            self.register.renew(file)
            self.later[file.number] = time.monotonic() + _LOOKS * self.endpoint.poll
            self.say(f"{self.endpoint.name}: the server has no room for {file.file} yet; it is sent again later")
            return False
        keys = self.register.keys(file.number)
        bad = [problem for problem in batch.problems if 1 <= problem.line <= len(keys)]
        for problem in bad:
            self.ledger.put(keys[problem.line - 1], Failure("refused", self._said(problem)))
        self.register.close(file)
        if not bad:
            why = "; ".join(map(self._said, batch.problems[:3])) or "it does not say why"
            raise ModelError(f"{self.api.server.url}: the server refuses the batch file {file.file}: {why}")
        self.failed += len({problem.line for problem in bad})
        told = f"{file.file} has {len(bad):,} lines that the server refuses; the others are sent again"
        self.say(f"{self.endpoint.name}: {told}")
        return True

    def _said(self, problem: BatchProblem) -> str:
        """A problem in one line."""
        return short(f"{problem.code}: {problem.message}", self.api.server.key)
