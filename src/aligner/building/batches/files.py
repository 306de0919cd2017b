"""Batch files for engines that have no server, as `vllm run-batch -i NAME-0001.jsonl -o NAME-0001.out.jsonl`.

The same command again collects what stands in the outputs, also of an engine that is still writing. What an engine
left out when it ended goes into a new file once its input is deleted.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from aligner.building.batches.collecting import collect
from aligner.building.batches.endpoints import FilesEndpoint, Progress, Say
from aligner.building.batches.lines import Terms
from aligner.building.batches.locking import alone
from aligner.building.batches.register import BatchFile, Register
from aligner.building.batches.writing import write_files
from aligner.building.ledger import Ledger
from aligner.building.nouns import Stage
from aligner.building.spending import Purse


def run(ledger: Ledger, stage: Stage, endpoint: FilesEndpoint, folder: Path, purse: Purse, say: Say) -> Progress:
    """Collect the outputs that are there, write what is todo into files, and say how far it is.

    Killed at any moment and run again, nothing is lost and no request is in two files that are open.
    """
    with Register(ledger.store.path) as register, alone(folder) as is_alone:
        work = _Work(ledger, register, stage, endpoint, folder, say)
        if is_alone:
            for file in work.open():
                work.collect(file)
            work.write(purse)
        progress = work.progress()
        return progress._replace(unpaid=is_alone and progress.todo > 0 and purse.max_cost is not None)


@dataclass(slots=True)
class _Work:
    """One run over the files of an endpoint."""

    ledger: Ledger
    register: Register
    stage: Stage
    endpoint: FilesEndpoint
    folder: Path
    say: Say
    done: int = 0
    failed: int = 0

    def open(self) -> list[BatchFile]:
        return self.register.open_files(self.stage, self.endpoint.name)

    def collect(self, file: BatchFile) -> None:
        asked = self.folder / file.file
        output = asked.with_suffix(".out.jsonl")
        keys = [key for key in self.register.keys(file.number) if self._is_open(key)]
        collected = collect(self.ledger, keys, [output], Terms(self.endpoint.prices, "files"))
        self.done, self.failed = self.done + collected.done, self.failed + collected.failed
        if not collected.left or not asked.exists():
            self.register.close(file)
        else:
            self.register.keep(file, len(collected.left) / len(keys))
        if collected.done or collected.failed:
            left = f"; {len(collected.left):,} are still missing in {output}" if collected.left else ""
            self.say(
                f"{self.endpoint.name}: {output.name}: {collected.done:,} replies, {collected.failed:,} failed{left}"
            )

    def write(self, purse: Purse) -> None:
        write_files(self.ledger, self.register, self.stage, self.endpoint, self.folder, purse.left())
        for file in self.open():
            path = self.folder / file.file
            output = path.with_suffix(".out.jsonl")
            if not output.exists():
                command = ["vllm", "run-batch", "-i", str(path), "-o", str(output), "--model", self.endpoint.model]
                self.say(f"{self.endpoint.name}: to be done: {shlex.join(command)}")

    def progress(self) -> Progress:
        files = self.open()
        waiting = self.register.waiting(files)
        todo = self.ledger.state(self.stage, [self.endpoint.name]).todo - waiting.todo
        return Progress(max(0, todo), waiting.calls, self.done, self.failed, len(files))

    def _is_open(self, key: str) -> bool:
        return self.ledger.reply(key) is None and self.ledger.failure(key) is None
