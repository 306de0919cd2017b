"""The tables of a study's report: every figure that a curve shows, and why a round was rolled back."""

from collections.abc import Iterator, Sequence
from typing import get_args

from aligner.bootstrapping.intervals import pooled
from aligner.bootstrapping.nouns import Fate, Guard
from aligner.bootstrapping.rounds import ArmShown, RoundShown, Run, change, mean_curve
from aligner.bootstrapping.wording import Name, Table, net, number, per_cent, share, signed, verdict
from aligner.config.bootstrapping import BootstrapGuards
from aligner.evaluating.formats import count
from aligner.scoring.intervals import Interval

_HASH = 12
"""digits of a hash that are shown; report.json has them all"""
_WAYS = {"sft": "SFT", "dpo": "DPO", "kto": "KTO", "rloo": "RLHF (RLOO)", "grpo": "RLHF (GRPO)"}
_PLACE = ("arm", "seed", "round")
_WATCHED = ("likelihood", "length", "divergence", "needless refusals")
_DRAWN = ", each with the answers of all seeds; what was gained compares the answers to the same prompt"
_PUBLISHED = (
    "There, Alpaca-7B gained, helpful and harmless: by SFT +14.0 and +63.7, by RLHF \N{MINUS SIGN}38.9 and +62.6, "
    "by DPO \N{MINUS SIGN}51.3 and +57.1."
)


def tables_of(arms: Sequence[ArmShown], guards: BootstrapGuards, *, oracle: bool) -> list[Table]:
    """All tables in their order, but for those without a row."""
    tables = (
        _means(arms, guards, oracle=oracle),
        _rounds(arms, oracle=oracle),
        _tripped(arms),
        _published(arms),
        _qualities(arms),
        _fates(arms),
        _lineage(arms),
    )
    return [table for table in tables if table.rows]


def _means(arms: Sequence[ArmShown], guards: BootstrapGuards, *, oracle: bool) -> Table:
    rows = [
        [
            Name(shown.arm.name),
            str(mean.number),
            count(mean.seeds),
            _accepted([one for one in shown.rounds if one.number == mean.number]),
            (share if oracle else net)(mean.figure),
        ]
        for shown in arms
        for mean in mean_curve(shown, guards.patience, oracle=oracle)
    ]
    return Table(
        "Each arm, mean over seeds",
        "Of the upstream that stands after each round: the last accepted one. "
        f"The 95 % interval is over prompts{_DRAWN if oracle else ''}; how far seeds differ, their own rows say. "
        "Where all prompts gave the same, Wilson's interval stands for the bootstrap's, which has no width.",
        ("arm", "round", "seeds", "accepted", "good answers" if oracle else "net rate against round 0"),
        rows,
    )


def _rounds(arms: Sequence[ArmShown], *, oracle: bool) -> Table:
    good = ("good answers", "good, greedy") if oracle else ()
    return Table(
        "Each round",
        "Net rates by the judge, all qualities together, in points. Likelihood: what a token of corrections that were "
        "not learnt from gained in the round, in nats. Length: against the corrections of round 0. Divergence: from "
        "round 0, in nats a token.",
        (*_PLACE, *good, "against the last accepted", "against round 0", *_WATCHED, "verdict"),
        [[*_place(name, one), *_figures(one, oracle=oracle), Name(verdict(one))] for name, one in _shown(arms)],
    )


def _figures(one: RoundShown, *, oracle: bool) -> Iterator[str]:
    found = one.found
    if oracle:
        yield share(found.good)
        yield per_cent(found.good_greedy)
    yield net(found.net.get("all"))
    yield net(found.net_first.get("all"))
    yield signed(change(one))
    yield number(found.length)
    yield number(found.kl, 3)
    yield per_cent(found.refusals)


def _tripped(arms: Sequence[ArmShown]) -> Table:
    rows = [
        [*_place(name, one), *_guard(guard), "noted" if one.verdict.accepted else "rolled back"]
        for name, one in _shown(arms)
        for guard in one.verdict.guards
        if guard.tripped
    ]
    return Table(
        "What the guards caught",
        "A round that is rolled back teaches nobody.",
        (*_PLACE, "guard", "figure", "bound", "why", "what followed"),
        rows,
    )


def _guard(guard: Guard) -> list[str]:
    return [Name(guard.name), number(guard.figure, 3), Name(guard.bound), Name(guard.why)]


def _published(arms: Sequence[ArmShown]) -> Table:
    lasts = [(shown.arm, [one for run in shown.runs if (one := _last_trained(run))]) for shown in arms]
    qualities = list(dict.fromkeys(quality for _, found in lasts for one in found for quality in one.found.net_first))
    rows = [
        [Name(arm.name), _WAYS[arm.way], *(net(_over_seeds(found, one)) for one in qualities), _accepted(found)]
        for arm, found in lasts
        if found
    ]
    return Table(
        "Ways of learning, against the first upstream",
        "Net rates in points of the last round that learnt something, accepted or not, over seeds: the shape of the "
        f"paper's Table 4. {_PUBLISHED}",
        ("arm", "way", *qualities, "accepted"),
        rows,
    )


def _last_trained(run: Run) -> RoundShown | None:
    """A round in which nothing was learnt has no model that could have been judged."""
    return next((one for one in reversed(run.rounds) if one.found.net_first), None)


def _over_seeds(rounds: Sequence[RoundShown], quality: str) -> Interval | None:
    return pooled([one.found.net_first[quality] for one in rounds if quality in one.found.net_first])


def _accepted(rounds: Sequence[RoundShown]) -> str:
    return f"{sum(one.verdict.accepted for one in rounds)} of {len(rounds)}" if rounds else ""


def _qualities(arms: Sequence[ArmShown]) -> Table:
    shown = [
        (_place(name, one), against, rates)
        for name, one in _shown(arms)
        for against, rates in (("the last accepted", one.found.net), ("round 0", one.found.net_first))
        if one.number and rates
    ]
    qualities = list(dict.fromkeys(quality for _, _, rates in shown for quality in rates))
    rows = [[*place, against, *(net(rates.get(one)) for one in qualities)] for place, against, rates in shown]
    return Table("By quality", "Net rates by the judge, in points.", (*_PLACE, "against", *qualities), rows)


def _fates(arms: Sequence[ArmShown]) -> Table:
    fates = list(dict.fromkeys([*get_args(Fate), *(fate for _, one in _shown(arms) for fate in one.fates)]))
    rows = [
        [*_place(name, one), *(count(one.fates.get(fate, 0)) for fate in fates), Name(one.audit or "none")]
        for name, one in _shown(arms)
        if one.fates
    ]
    return Table(
        "What the gate let through",
        "The corrections of each round by their fate, and how far another judge agrees on a sample.",
        (*_PLACE, *fates, "audit"),
        rows,
    )


def _lineage(arms: Sequence[ArmShown]) -> Table:
    rows = [
        [*_place(name, one), Name(one.upstream[:_HASH] or "none"), Name(one.model[:_HASH] or "none")]
        for name, one in _shown(arms)
    ]
    return Table(
        "Lineage",
        "What went in and what came out, by the beginning of its SHA-256; report.json has the whole of it.",
        (*_PLACE, "upstream", "model"),
        rows,
    )


def _shown(arms: Sequence[ArmShown]) -> list[tuple[str, RoundShown]]:
    """All rounds with the name of their arm; round 0 of each seed once, for all arms."""
    firsts = {run.seed: run.first for shown in arms for run in shown.runs if run.first}
    later = ((shown.arm.name, one) for shown in arms for one in shown.rounds)
    return [*(("all", one) for one in firsts.values()), *later]


def _place(name: str, one: RoundShown) -> list[str]:
    return [Name(name), str(one.seed), str(one.number)]
