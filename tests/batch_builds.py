"""Builds for tests of batches: `python tests/batch_builds.py FOLDER URL COUNT` sends and collects until all is done."""

import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from batch_server import KEY, BatchServer

from aligner.building.batches import BatchEndpoint, FileLimits, FilesEndpoint, Progress, files, run
from aligner.building.ledger import Ledger
from aligner.building.nouns import Failure, Reply, Request, Stage, key_of, order_of
from aligner.building.spending import Prices, Purse
from aligner.building.store import Store
from aligner.building.workers import Worker
from aligner.models.server import Server
from aligner.records import Message, SamplingParams

PRICES = Prices(price_in=2.0, price_out=8.0, share=0.5)
SAMPLING = SamplingParams(temperature=0.5, top_p=0.95, max_tokens=64)


@contextmanager
def ledger_in(folder: Path) -> Generator[Ledger]:
    """The ledger of a build in that folder, in the eyes of a new worker."""
    with Store(folder / "build.sqlite") as store, Worker(folder) as worker:
        yield Ledger(store, worker)


def requests(contents: Iterable[str], model: str = "up", stage: Stage = "answers") -> list[Request]:
    """One request for each content."""
    made: list[Request] = []
    for content in contents:
        messages = (Message("system", "Be kind."), Message("user", content))
        key = key_of(model, messages, SAMPLING, "test 1", 0)
        order = order_of(0, content)
        made.append(
            Request(key=key, stage=stage, model=model, messages=messages, sampling=SAMPLING, about=content, order=order)
        )
    return made


def endpoint_of(url: str, **changes: Any) -> BatchEndpoint:
    """The endpoint of a server, which does not wait for what has not come."""
    server = Server(url=url, key=KEY)
    usual = BatchEndpoint(name="up", model="gpt-x", server=server, prices=PRICES, settle=0.0, poll=0.02)
    return replace(usual, **changes)


def files_endpoint(**changes: Any) -> FilesEndpoint:
    """The endpoint of an offline engine."""
    return replace(FilesEndpoint(name="up", model="tiny", prices=PRICES), **changes)


def sent(ledger: Ledger, endpoint: BatchEndpoint, folder: Path, **purse: Any) -> tuple[Progress, list[str]]:
    """One run over a Batch API: how far it is, and what it said."""
    said: list[str] = []
    progress = run(ledger, "answers", endpoint, folder / "batches", Purse(ledger, **purse), said.append)
    return progress, said


def filed(ledger: Ledger, endpoint: FilesEndpoint, folder: Path, **purse: Any) -> tuple[Progress, list[str]]:
    """One run over the files of an engine: how far it is, and what it said."""
    said: list[str] = []
    progress = files.run(ledger, "answers", endpoint, folder / "batches", Purse(ledger, **purse), said.append)
    return progress, said


def outcomes(ledger: Ledger, asked: Iterable[Request]) -> dict[str, Reply | Failure | None]:
    """What became of requests, by their last message."""
    return {request.messages[-1].content: ledger.reply(request.key) or ledger.failure(request.key) for request in asked}


def faults(ledger: Ledger, asked: Iterable[Request]) -> dict[str, str]:
    """How requests failed, by their last message."""
    found = outcomes(ledger, asked).items()
    return {content: outcome.fault for content, outcome in found if isinstance(outcome, Failure)}


def paid_once(server: BatchServer, asked: Iterable[Request]) -> bool:
    """Whether the server was paid once for each request, and for nothing else."""
    return server.bill() == {request.key: 1 for request in asked}


def main(folder: Path, url: str, in_a_file: int) -> None:
    """Send and collect, until all is done."""
    endpoint = endpoint_of(url, wait=60.0, settle=0.4, limits=FileLimits(requests=in_a_file))
    with ledger_in(folder) as ledger:
        progress, _ = sent(ledger, endpoint, folder)
    assert not progress.waiting


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
