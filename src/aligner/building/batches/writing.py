"""Batch files on the disk: its requests are taken, then the file is written whole, and only then anything is asked."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from aligner.building.batches.endpoints import BatchEndpoint, FileLimits, FilesEndpoint
from aligner.building.batches.lines import line_of
from aligner.building.batches.register import BatchFile, Register, new_token
from aligner.building.ledger import Ledger
from aligner.building.nouns import Failure, Request, Stage
from aligner.files.output import replacing

_CHARACTERS_A_TOKEN = 4
_ENOUGH = 20
"""replies from which on their mean length says how long the others will be"""
_LONG = 1024
"""tokens of a reply whose length nothing bounds"""


class _Line(NamedTuple):
    key: str
    text: bytes
    cost: float


def write_files(
    ledger: Ledger, register: Register, stage: Stage, endpoint: BatchEndpoint | FilesEndpoint, folder: Path, most: float
) -> int:
    """Write the requests that are todo and in no file into files, and give the number of files.

    They end where they would cost more than `most`, in the currency of the prices, as far as that can be told. A
    request whose line is longer than a whole file may be fails as `context`. Holds one file in memory.
    """
    cost_of = _estimate(ledger, stage, endpoint)
    too_long: list[str] = []
    count = 0
    lines = _lines(_free(ledger, register, stage, endpoint.name), endpoint, cost_of, too_long)
    for part in _parts(_affordable(lines, most), endpoint.limits):
        count += _write(register, stage, endpoint.name, folder, part)
    for key in too_long:
        ledger.put(key, Failure("context", f"its line is longer than {endpoint.limits.size:,} bytes"))
    return count


def _free(ledger: Ledger, register: Register, stage: Stage, name: str) -> Iterator[Request]:
    return (
        request for request in ledger.requests(stage, model=name, state="todo") if not register.is_open(request.key)
    )


def _estimate(ledger: Ledger, stage: Stage, endpoint: BatchEndpoint | FilesEndpoint) -> Callable[[Request], float]:
    """What a request will cost, by the mean length of the replies there are, or else by the longest it may have."""
    state = ledger.state(stage, [endpoint.name])
    mean = state.completion_tokens / state.done if state.done >= _ENOUGH else None

    def cost(request: Request) -> float:
        read = sum(len(message.content) for message in request.messages) // _CHARACTERS_A_TOKEN + 1
        longest = request.sampling.max_tokens or _LONG
        return endpoint.prices.cost(read, longest if mean is None else round(mean))

    return cost


def _lines(
    requests: Iterable[Request],
    endpoint: BatchEndpoint | FilesEndpoint,
    cost_of: Callable[[Request], float],
    too_long: list[str],
) -> Iterator[_Line]:
    for request in requests:
        text = line_of(request, endpoint.model, endpoint.path)
        if len(text) > endpoint.limits.size:
            too_long.append(request.key)
        else:
            yield _Line(request.key, text, cost_of(request))


def _affordable(lines: Iterable[_Line], most: float) -> Iterator[_Line]:
    for line in lines:
        most -= line.cost
        if most < 0 < line.cost:
            return
        yield line


def _parts(lines: Iterable[_Line], limits: FileLimits) -> Iterator[list[_Line]]:
    part: list[_Line] = []
    size = 0
    for line in lines:
        if part and (len(part) >= limits.requests or size + len(line.text) > limits.size):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line.text)
    if part:
        yield part


def _write(register: Register, stage: Stage, name: str, folder: Path, lines: list[_Line]) -> bool:
    """Write a file; says whether anything was left for it. One that is noted and not there yet is given free later."""
    number = register.next_number()
    while list(folder.glob(f"*-{number:04}.*")):
        # Of another store that was here.
        number += 1
    file = f"{_plain(name)}-{number:04}.jsonl"
    cost = sum(line.cost for line in lines)
    noted = BatchFile(number, stage, name, file, new_token(), cost)
    held = set(register.add(noted, (line.key for line in lines)))
    if held:
        with replacing(folder / file) as out:
            for line in lines:
                if line.key in held:
                    out.write(line.text)
    return bool(held)


def _plain(name: str) -> str:
    """A name for files; the number behind it tells apart what looks alike."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60] or "batch"
