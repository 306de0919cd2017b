"""What the rounds of the proxy's benchmark show: medians, ranges, and ratios of medians."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from typing import Any, NamedTuple

TARGETS: Mapping[str, Callable[[float], bool]] = {
    "cpu_ms_per_request": lambda value: value <= 0.8,
    "cpu_us_per_chunk": lambda value: value <= 40,
    "litellm_cpu_ratio": lambda value: value >= 5,
    "rps_vs_bare_relay": lambda value: value >= 0.7,
    "own_ms_correct": lambda value: value <= 3,
    "added_p50_ms": lambda value: value <= 1.5,
    "added_p99_ms": lambda value: value <= 5,
    "rps": lambda value: value >= 500,
    "megabytes": lambda value: value < 120,
}
"""Where nothing else is said, of mode `off`."""


class Corrected(NamedTuple):
    """One answer in mode `correct`, in milliseconds."""

    total: float
    """as its client has waited for it"""
    correct: float
    """that the proxy says the correction took"""
    overhead: float
    """that the proxy says it took itself"""


class Round(NamedTuple):
    """One round; all by the names of the arms."""

    cpu_ms: Mapping[str, float]
    """a request"""
    chunk_us: Mapping[str, float]
    """a chunk of streams side by side, beyond their requests"""
    chunk_alone_us: Mapping[str, float]
    """the same of one stream at a time"""
    apart: Mapping[str, float]
    """the share of a stream's chunks that came to the client on their own"""
    latency_ms: Mapping[str, Sequence[float]]
    rates: Mapping[str, float]
    """requests a second, at once"""
    corrected: Sequence[Corrected]


def figures(rounds: Sequence[Round], megabytes: Mapping[str, float]) -> dict[str, Any]:
    """All figures, those with targets first."""
    of_arms = {arm: _of_arm(rounds, arm) | {"megabytes": size} for arm, size in megabytes.items()}
    ours = of_arms["off"]
    found = ours | {
        "litellm_cpu_ratio": of_arms["litellm"]["cpu_ms_per_request"] / ours["cpu_ms_per_request"],
        "rps_vs_bare_relay": ours["rps"] / of_arms["relay"]["rps"],
        "own_ms_correct": _middle(rounds, _own_ms),
    }
    missed = [name for name, holds in TARGETS.items() if not holds(found[name])]
    return {
        **_rounded({name: found[name] for name in TARGETS}),
        "target_met": not missed,
        "missed": missed,
        "own_ms_correct_as_told": round(_middle(rounds, lambda r: median(one.overhead for one in r.corrected)), 3),
        "chunks_apart": round(_middle(rounds, lambda r: r.apart["off"]), 3),
        "ranges": {
            "cpu_ms_per_request": _range(rounds, lambda r: r.cpu_ms["off"]),
            "cpu_us_per_chunk": _range(rounds, lambda r: r.chunk_us["off"]),
            "litellm_cpu_ratio": _range(rounds, lambda r: r.cpu_ms["litellm"] / r.cpu_ms["off"]),
            "rps_vs_bare_relay": _range(rounds, lambda r: r.rates["off"] / r.rates["relay"]),
            "own_ms_correct": _range(rounds, _own_ms),
        },
        "arms": {arm: _rounded(values) for arm, values in of_arms.items()},
    }


def table(found: Mapping[str, Any]) -> str:
    """The figures of all arms, for people."""
    heads = {
        "cpu_ms_per_request": "CPU ms/request",
        "cpu_us_per_chunk": "CPU us/chunk",
        "cpu_us_per_chunk_alone": "a stream alone",
        "added_p50_ms": "added p50 ms",
        "added_p99_ms": "added p99 ms",
        "rps": "requests/s",
        "megabytes": "MB",
    }
    lines = [" ".join([f"{'':8}", *(f"{head:>14}" for head in heads.values())])]
    for arm, values in found["arms"].items():
        cells = (f"{values[name]:.2f}" if name in values else "-" for name in heads)
        lines.append(" ".join([f"{arm:8}", *(f"{cell:>14}" for cell in cells)]))
    return "\n".join(lines)


def _of_arm(rounds: Sequence[Round], arm: str) -> dict[str, float]:
    found = {"cpu_ms_per_request": _middle(rounds, lambda r: r.cpu_ms[arm])}
    if all(arm in round_.chunk_us for round_ in rounds):
        found["cpu_us_per_chunk"] = _middle(rounds, lambda r: r.chunk_us[arm])
        found["cpu_us_per_chunk_alone"] = _middle(rounds, lambda r: r.chunk_alone_us[arm])
    found["added_p50_ms"] = _middle(rounds, lambda r: median(r.latency_ms[arm]) - median(r.latency_ms["direct"]))
    found["added_p99_ms"] = _p99(rounds, arm) - _p99(rounds, "direct")
    found["rps"] = _middle(rounds, lambda r: r.rates[arm])
    return found


def _own_ms(of: Round) -> float:
    """What is added to the upstream's latency, less the correction."""
    return median(one.total - one.correct for one in of.corrected) - median(of.latency_ms["direct"])


def _p99(rounds: Sequence[Round], arm: str) -> float:
    """Of all rounds together: one alone has too few requests for it."""
    return quantiles([value for round_ in rounds for value in round_.latency_ms[arm]], n=100, method="inclusive")[-1]


def _middle(rounds: Sequence[Round], value: Callable[[Round], float]) -> float:
    return median(value(round_) for round_ in rounds)


def _range(rounds: Sequence[Round], value: Callable[[Round], float]) -> list[float]:
    """The least and the most of the rounds."""
    values = [round(value(round_), 3) for round_ in rounds]
    return [min(values), max(values)]


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}
