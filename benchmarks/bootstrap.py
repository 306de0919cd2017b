"""What corrections teach an upstream, round after round, in the closed world.

python benchmarks/bootstrap.py                      SFT and DPO, three rounds, three upstreams
python benchmarks/bootstrap.py --study naive        DPO without its SFT term, with guards and without
python benchmarks/bootstrap.py --study ways         KTO, and a reward model with RLOO and with GRPO
python benchmarks/bootstrap.py --study weak-to-strong   a small Aligner teaches an upstream three times its size
python benchmarks/bootstrap.py --quick              two rounds of SFT from the upstream that ships

Each is one `aligner bootstrap` with the configuration of its name, and goes on where it was interrupted. Upstreams and
the judge that decides are made first, and kept. Each prints its time, and one line of JSON last.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import orjson
from record import record
from world_upstream import LARGE, SMALL, make_judge, make_upstream

from aligner.bootstrap import bootstrap
from aligner.config import BootstrapConfig, packaged_config, read_config

_STUDIES = {
    "sft-dpo": "bootstrap-study",
    "naive": "bootstrap-naive",
    "ways": "bootstrap-ways",
    "weak-to-strong": "weak-to-strong",
}


def main() -> None:
    """Make what is missing, run the study, and record what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds of SFT from the shipped upstream")
    parser.add_argument("--study", choices=_STUDIES, default="sft-dpo", help="which study")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of all studies")
    given = parser.parse_args()
    if given.quick:
        with tempfile.TemporaryDirectory() as scratch:
            record("bootstrap_quick", quick(Path(scratch)))
        return
    seconds = made(given.out / "upstreams", large=given.study == "weak-to-strong")
    name = _STUDIES[given.study]
    config = read_config(BootstrapConfig, packaged_config(name), out=given.out / name)
    record(name.replace("-", "_"), {**studied(config), "seconds_of_what_it_needs": seconds})


def quick(out: Path) -> Mapping[str, Any]:
    """Two rounds of SFT, with everything that a round has, and a few prompts."""
    config = read_config(BootstrapConfig, packaged_config("bootstrap-world"), out=out)
    return studied(
        replace(
            config, rounds=2, arms=config.arms[:1], prompts="world:1600", prompts_per_round=700, held_out="world:400"
        )
    )


def made(folder: Path, *, large: bool) -> Mapping[str, float]:
    """The seconds that it took to make the upstreams and the judge, as far as they were not there."""
    makers = {"judge": lambda: make_judge(folder / "judge")}
    if large:
        makers["large"] = lambda: make_upstream(folder / "large", LARGE, seed=0)
    else:
        makers |= {f"small-{s}": partial(make_upstream, folder / f"small-{s}", SMALL, seed=s) for s in range(3)}
    return {name: _timed(make)[1] for name, make in makers.items()}


def studied(config: BootstrapConfig) -> Mapping[str, Any]:
    """Run a study to its end; what each arm came to, in the shares of good answers that the oracle marks."""
    _, seconds = _timed(lambda: bootstrap(config))
    rounds = orjson.loads((config.out / "report.json").read_bytes())["rounds"]
    arms = {arm.name: arm_of(rounds, arm.name, config.seeds) for arm in config.arms}
    gains = [arm["gain"] for arm in arms.values()]
    return {"rounds": config.rounds, "gain": gains[0], "arms": arms, "seconds": seconds}


def arm_of(rounds: Sequence[Mapping[str, Any]], arm: str, seeds: Sequence[int]) -> Mapping[str, Any]:
    """The rounds of an arm, seed by seed, and what the last accepted ones gained over round 0."""
    runs: list[Mapping[str, Any]] = []
    for seed in seeds:
        first = next(one for one in rounds if one["seed"] == seed and not one["round"])
        own = [
            one for one in rounds if (one["arm"], one["seed"]) == (arm, seed) and one["round"] and one["found"]["good"]
        ]
        accepted = [first, *(one for one in own if one["verdict"]["accepted"])]
        runs.append(
            {
                "seed": seed,
                "good": [_good(first), *map(_good, own)],
                "rolled_back": [one["round"] for one in own if not one["verdict"]["accepted"]],
                "rises": all(_good(b) > _good(a) for a, b in pairwise(accepted)),
                "gain": round(_good(accepted[-1]) - _good(first), 4),
            }
        )
    return {"gain": round(fmean(run["gain"] for run in runs), 4), "runs": runs}


def _good(one: Mapping[str, Any]) -> float:
    """The oracle's share of a round; nothing was learnt where there is none."""
    found = one["found"]["good"]
    return found["value"] if found else float("nan")


def _timed(make: Callable[[], object]) -> tuple[object, float]:
    began = time.monotonic()
    made = make()
    return made, round(time.monotonic() - began, 1)


if __name__ == "__main__":
    main()
