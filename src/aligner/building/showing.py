"""What a build says of itself on a terminal: the estimate, what waits, and how far it is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aligner.building.endpoints import Waiting
from aligner.building.estimating import Estimate, Line
from aligner.config import BuildConfig


def estimate_lines(config: BuildConfig, found: Estimate) -> list[str]:
    """Calls, tokens, money and hours of the whole build, model by model."""
    rows = [_estimate_row(config, line) for line in found.lines]
    spent = f", {money(config, found.spent)} of it spent" if found.spent else ""
    hours = f", about {duration(found.hours)}" if found.hours else ""
    last = f"whole build: about {found.triples:,} triples before filters, {money(config, found.cost)}{spent}{hours}"
    judge = [f"the judge {config.judge}: not counted, and no limit holds for it"] if config.judge else []
    return [*table(rows), last, *judge, *_limit(config, found)]


def waiting_lines(waiting: Iterable[Waiting]) -> list[str]:
    """What has to wait, and for what."""
    return [f"{found.calls:,} {found.what} wait for {found.cure}" for found in waiting]


def status_lines(config: BuildConfig, figures: Mapping[str, Any]) -> list[str]:
    """How far a build is: stages, calls by model, and why rows were dropped."""
    kept = figures["rows"]
    rows = [
        [stage, f"{kept[stage]['kept']:,} kept", f"{sum(kept[stage]['dropped'].values()):,} dropped"] for stage in kept
    ]
    calls = [_calls_row(config, found) for found in figures["calls"]]
    reasons = [
        [f"{stage}: {reason}", f"{count:,}"]
        for stage, found in kept.items()
        for reason, count in sorted(found["dropped"].items(), key=lambda item: (-item[1], item[0]))
    ]
    parts = [table(rows), table(calls), table(reasons), [f"spent: {money(config, figures['spent'])}"]]
    return [line for part in parts if part for line in (*part, "")][:-1]


def money(config: BuildConfig, amount: float) -> str:
    """An amount in the currency of the configuration, cents or, below one, three digits."""
    return f"{amount:,.2f} {config.currency}" if amount >= 1 or not amount else f"{amount:.3g} {config.currency}"


def duration(hours: float) -> str:
    """Hours and minutes, or minutes and seconds below an hour."""
    seconds = round(hours * 3600)
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts in columns: the first column on the left, the others on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _estimate_row(config: BuildConfig, line: Line) -> list[str]:
    return [
        f"{line.stage} of {line.model}",
        f"{line.calls:,} calls",
        f"{line.prompt_tokens:,} tokens read",
        f"{line.completion_tokens:,} written",
        money(config, line.cost),
        duration(line.hours) if line.hours else "no limit",
    ]


def _limit(config: BuildConfig, found: Estimate) -> list[str]:
    if config.max_cost is None or config.max_cost >= found.cost:
        return []
    share = config.max_cost / found.cost
    pays = f"--max-cost {config.max_cost:g} pays for about {share:.0%} of that"
    return [f"{pays}: so many of the questions are asked, and the same command with a greater --max-cost goes on"]


def _calls_row(config: BuildConfig, found: Mapping[str, Any]) -> list[str]:
    failed = ", ".join(f"{count:,} {fault}" for fault, count in sorted(found["failed"].items()))
    return [
        f"{found['stage']} of {found['model']}",
        f"{found['done']:,} done",
        f"{found['todo']:,} to do",
        f"{found['leased']:,} under way",
        f"failed: {failed or 'none'}",
        money(config, found["cost"]),
    ]
