"""The life of an Aligner: make data, train, stack it on flawed upstreams, count what it fixed and what it broke."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aligner.config import DemoConfig, TrainConfig, packaged_config, read_config
from aligner.correct import Aligner
from aligner.correcting.show import diff
from aligner.data.fields import row_of
from aligner.files import write_json_atomic, write_rows
from aligner.records import Correction, Exchange
from aligner.scoring.edits import edits_between
from aligner.scoring.net import NetRate, net_rate
from aligner.train import train
from aligner.world.families import Quality
from aligner.world.measure import QUALITIES, Outcome, Tally, measure, tally, tally_quality
from aligner.world.nearest import nearest_corrections
from aligner.world.profiles import PROFILES
from aligner.world.rows import Row, held_out_rows, training_rows

_HELD_OUT_SEED = 1_000_003
"""seed of the held-out questions, which no training row shares"""
_GATE_SEED = 2_000_003
GATE_ANSWERS = 400
"""answers of each upstream that the gate of the shipped checkpoint is fitted to"""
TRAINING_ROWS = 84_000
_BASELINE_ANSWERS = 20
"""answers of each upstream for which the most similar of all training rows is looked up"""
_EXAMPLES = 3
_WIDTH = 120
"""columns where the output is no terminal"""


def demo(config: DemoConfig) -> None:
    """aligner demo: train an Aligner (or take the shipped one), correct every upstream, and print what came of it."""
    aligner = Aligner.from_pretrained("demo" if config.shipped else str(train_demo(config)), device="cpu")
    outcomes = correct_upstreams(aligner, config.answers)
    report = summary(outcomes, nearest_neighbour(config.seed))
    config.out.mkdir(parents=True, exist_ok=True)
    write_json_atomic(config.out / "demo.json", report)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    console.print(_table(outcomes))
    console.print(_verdict(report))
    for example in _examples(outcomes):
        console.print(example)


def correct_upstreams(aligner: Aligner, count: int) -> list[Outcome]:
    """What the Aligner makes of `count` held-out answers of each upstream."""
    return measure(held_out(count), lambda asked: _corrected(aligner, asked))


def nearest_neighbour(seed: int) -> Tally:
    """What the correction of the most similar training row makes of some held-out answers."""
    training = list(training_rows(count=TRAINING_ROWS, seed=seed))
    return tally(measure(held_out(_BASELINE_ANSWERS), lambda asked: nearest_corrections(training, asked)))


def held_out(count: int) -> list[Row]:
    """`count` answers of each upstream to questions with names that training never saw."""
    return held_out_rows(count, seed=_HELD_OUT_SEED)


def gate_rows(count: int = GATE_ANSWERS) -> list[Row]:
    """`count` answers of each upstream that training saw, to questions that neither training nor the demo asks."""
    asked = {row.asked.text for row in held_out(DemoConfig().answers)}
    return [
        row
        for row in held_out_rows(count, seed=_GATE_SEED)
        if PROFILES[row.profile].seen and row.asked.text not in asked
    ]


def summary(outcomes: Sequence[Outcome], baseline: Tally) -> dict[str, Any]:
    """The figures of the demo, as JSON holds them: pooled, by upstream and by quality."""
    seen = tally(outcome for outcome in outcomes if PROFILES[outcome.row.profile].seen)
    unseen = tally(outcome for outcome in outcomes if not PROFILES[outcome.row.profile].seen)
    return {
        "world": "closed",
        "upstreams": len(PROFILES),
        "answers": len(outcomes),
        "fix_rate": seen.fix_rate,
        "keep_rate": seen.keep_rate,
        "unseen_fix_rate": unseen.fix_rate,
        "unseen_keep_rate": unseen.keep_rate,
        "nearest_neighbour_fix_rate": baseline.fix_rate,
        "by_upstream": {name: _figures(tally(group)) for name, group in _by_profile(outcomes).items()},
        "by_quality": {quality: _figures(tally_quality(outcomes, quality)) for quality in QUALITIES},
    }


def _figures(counts: Tally) -> dict[str, Any]:
    net = _net(counts)
    rates = {"fix_rate": counts.fix_rate, "keep_rate": counts.keep_rate}
    return {**counts._asdict(), **rates, "net_rate": net.rate, "interval": [net.low, net.high]}


def _net(counts: Tally) -> NetRate:
    return net_rate(counts.fixed, counts.broken, counts.answers - counts.fixed - counts.broken)


def _by_profile(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {name: [] for name in PROFILES}
    for outcome in outcomes:
        groups[outcome.row.profile].append(outcome)
    return groups


def train_demo(config: DemoConfig, *, count: int = TRAINING_ROWS) -> Path:
    """The checkpoint that `aligner train` makes of the world's triples with the demo's configuration."""
    triples = config.out / "triples.jsonl"
    if not triples.exists():
        config.out.mkdir(parents=True, exist_ok=True)
        write_rows(triples, (row_of(row.triple) for row in training_rows(count=count, seed=config.seed)))
    path = config.training or packaged_config("demo")
    return train(read_config(TrainConfig, path, triples=triples, out=config.out / "training"))


def _corrected(aligner: Aligner, asked: Sequence[Row]) -> list[str]:
    exchanges = (Exchange(row.asked.text, row.answer) for row in asked)
    return [correction.text for correction in aligner.correct_many(exchanges, batch=128)]


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title=f"Closed world: {len(outcomes):,} held-out answers before and after correction", box=SIMPLE)
    for heading in ("upstream", "flawed", "fixed", "broken", "left alone", "net rate, 95 %", *QUALITIES):
        table.add_column(heading, justify="left" if heading == "upstream" else "right", no_wrap=True)
    for name, group in _by_profile(outcomes).items():
        table.add_row(*_cells(name if PROFILES[name].seen else f"{name} *", group))
    table.add_section()
    table.add_row(*_cells("all", outcomes))
    table.caption = "* never seen in training; for each H: fixed/flawed, and what was broken behind a minus"
    return table


def _cells(name: str, group: Sequence[Outcome]) -> list[str]:
    counts = tally(group)
    net = _net(counts)
    shown = f"{net.rate:+.0%} [{net.low:+.0%}, {net.high:+.0%}]"
    numbers = (counts.flawed, counts.fixed, counts.broken, counts.alone)
    return [name, *map(str, numbers), shown, *(_quality_cell(group, quality) for quality in QUALITIES)]


def _quality_cell(group: Sequence[Outcome], quality: Quality) -> str:
    counts = tally_quality(group, quality)
    return f"{counts.fixed}/{counts.flawed}" + (f" -{counts.broken}" if counts.broken else "")


def _verdict(report: Mapping[str, Any]) -> Text:
    lines = [
        f"Fixed: {report['fix_rate']:.1%} of flawed answers (unseen upstreams {report['unseen_fix_rate']:.1%}).",
        f"Returned byte for byte: {report['keep_rate']:.1%} of good ones (unseen {report['unseen_keep_rate']:.1%}).",
        f"The correction of the most similar training row would fix {report['nearest_neighbour_fix_rate']:.1%}.",
    ]
    return Text("\n".join(lines))


def _examples(outcomes: Sequence[Outcome]) -> list[Text]:
    """Three changes as diffs, broken answers first, then those left flawed, then fixed ones."""
    changed = sorted((o for o in outcomes if not o.kept), key=lambda o: (not o.broken, o.fixed))
    return [Text(f"\n{_kind(o)} {o.row.asked.text}\n", "bold") + diff(_correction(o)) for o in changed[:_EXAMPLES]]


def _kind(outcome: Outcome) -> str:
    return "Broken:" if outcome.broken else "Fixed:" if outcome.fixed else "Still flawed:"


def _correction(outcome: Outcome) -> Correction:
    exchange = Exchange(outcome.row.asked.text, outcome.row.answer)
    return Correction(exchange=exchange, text=outcome.text, edits=edits_between(outcome.row.answer, outcome.text))
