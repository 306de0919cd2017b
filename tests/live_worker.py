"""One worker that asks a server live until nothing is left, as a program that can be killed."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aligner.building.endpoint import Endpoint, Limits
from aligner.building.ledger import Ledger
from aligner.building.live import run_live
from aligner.building.nouns import Request, key_of, order_of
from aligner.building.spending import Prices, Purse
from aligner.building.store import Store
from aligner.building.workers import Worker
from aligner.errors import AlignerError
from aligner.models.openai import load
from aligner.models.server import Timeouts
from aligner.records import Message, SamplingParams

NAME = "upstream"


def requests(texts: Iterable[str], *, model: str = NAME, sampling: SamplingParams | None = None) -> list[Request]:
    """A request for each text, at the stage of answers."""
    sampling = sampling or SamplingParams(max_tokens=64)
    return [
        Request(
            key=key_of(model, (Message("user", text),), sampling, "test", 0),
            stage="answers",
            model=model,
            messages=(Message("user", text),),
            sampling=sampling,
            about=text,
            order=order_of(0, text),
        )
        for text in texts
    ]


def endpoint(base_url: str, *, key: str = "", total: float = 60.0, **options: Any) -> Endpoint:
    """A server to be asked; limits and prices are given as pairs."""
    model = load(f"m@{base_url}", {"OPENAI_API_KEY": key})
    model = replace(model, server=replace(model.server, timeouts=Timeouts(total=total)))
    limits, prices = Limits(*options.pop("limits", ())), Prices(*options.pop("prices", ()))
    return Endpoint(name=NAME, model=model, limits=limits, prices=prices, **options)


def asked(folder: Path, base_url: str, *, max_cost: float | None = None, **options: Any) -> int:
    """Ask for all that is to be done in a folder's store; gives how many outcomes came."""
    ticks: list[int] = []
    with Store(folder / "build.sqlite") as store, Worker(folder) as worker:
        ledger = Ledger(store, worker)
        asking = [endpoint(base_url, **options)]

        def tick(count: int = 1, note: str = "") -> None:  # noqa: ARG001  # a Tick takes one
            ticks.append(count)

        asyncio.run(run_live(ledger, "answers", asking, Purse(ledger, max_cost), tick))
    return sum(ticks)


def started(folder: Path, base_url: str, **options: Any) -> subprocess.Popen[bytes]:
    """The same, as a process."""
    told = json.dumps({"folder": str(folder), "base_url": base_url, **options})
    return subprocess.Popen([sys.executable, __file__, told])


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    try:
        asked(Path(given.pop("folder")), given.pop("base_url"), **given)
    except AlignerError as error:
        sys.exit(str(error))
