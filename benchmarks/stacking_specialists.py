"""Three Aligners that each learn to mend the flaws of some upstreams alone, and a gate for each of them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import orjson

from aligner.calibrate import calibrated
from aligner.config import Gate, TrainConfig, packaged_config, read_config
from aligner.data.fields import row_of
from aligner.files import write_json_atomic, write_rows
from aligner.records import Triple
from aligner.train import train
from aligner.training.measuring import standard_named
from aligner.world.profiles import PROFILES
from aligner.world.rows import rows
from aligner.world.words import Split

SPECIALISTS: Mapping[str, Sequence[str]] = {
    "facts": ("careless", "forgetful", "sloppy", "fanciful"),
    "harm": ("timid", "reckless", "indiscreet"),
    "manners": ("mocking", "surly", "boastful", "rambling"),
}
"""The upstreams whose answers each of them learns from; those that no training sees have flaws of several of them."""
_ROWS = 28_000
"""for each specialist: together as many as the demo has"""
_FOR_A_GATE = 400
"""answers of each upstream"""
_GATE_SEED = 4_000_037
_WANTED = (0.02, 0.05, 0.1, 0.5)
"""shares of flawed answers that a gate may let through: the first that it can promise"""


class Specialist(NamedTuple):
    """An Aligner with a gate."""

    checkpoint: Path
    wanted: float
    """share of flawed answers that the gate lets through at the most"""
    seconds: float
    """that the process took which finished it"""


def specialist(name: str, out: Path) -> Specialist:
    """A specialist trained by the demo's recipe, from its last checkpoint on; one that is there is kept."""
    start, folder = time.monotonic(), out / name
    triples, finished = folder / "triples.jsonl", folder / "finished.json"
    if not triples.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(triples, (row_of(triple) for triple in _triples(name, _ROWS, seed=0, split="seen")))
    config = read_config(TrainConfig, packaged_config("demo"), triples=triples, out=folder / "training")
    checkpoint = train(config)
    if not finished.exists():
        held_out = list(_triples(name, _FOR_A_GATE * len(SPECIALISTS[name]), seed=_GATE_SEED, split="unseen"))
        wanted = _with_gate(checkpoint, held_out)
        write_json_atomic(finished, {"wanted": wanted, "seconds": time.monotonic() - start})
    made = Specialist(checkpoint, **orjson.loads(finished.read_bytes()))
    print(f"{name}: {made.seconds:.0f} s", flush=True)
    return made


def _with_gate(checkpoint: Path, held_out: Sequence[Triple]) -> float:
    """Fit the strictest gate that these answers allow for, and say how strict it is."""
    for wanted in _WANTED:
        if calibrated(checkpoint, held_out, Gate(wanted=wanted), standard_named("world").is_good).threshold is not None:
            return wanted
    raise SystemExit(f"{checkpoint}: no gate could be fitted")


def _triples(name: str, count: int, *, seed: int, split: Split) -> Iterator[Triple]:
    """Rows of the specialist's upstreams, in turn."""
    streams = [rows(PROFILES[one], count=count, seed=seed, split=split) for one in SPECIALISTS[name]]
    for i in range(count):
        row = next(streams[i % len(streams)])
        yield replace(row.triple, sources=("world", row.profile, "world"))
