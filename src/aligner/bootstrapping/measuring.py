"""What a round is worth: its answers to the held-out prompts beside those of earlier rounds."""

from collections.abc import Callable, Mapping, Sequence
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from aligner.bootstrapping.comparing import Compared, Sides, compare
from aligner.bootstrapping.intervals import NOTHING, widened, written_marks
from aligner.bootstrapping.likelihood import Likelihood, mean_gap, token_mean
from aligner.bootstrapping.marking import marks, needless
from aligner.bootstrapping.nouns import Found
from aligner.evaluating.figures import finite
from aligner.judge import Judge
from aligner.judging.verdicts import rates
from aligner.prompts import Quality
from aligner.records import Question
from aligner.scoring.intervals import Interval, mean_interval

Tokens = Callable[[str], int]
"""How many tokens of the upstream a text has."""


class HeldOut(NamedTuple):
    """The held-out prompts, and what each upstream says to them, in the same order."""

    questions: Sequence[Question]
    now: Sequence[str]
    """this round's upstream, sampled"""
    accepted: Sequence[str]
    """the last accepted upstream, sampled"""
    first: Sequence[str]
    """the first upstream, sampled"""
    corrections: Sequence[str]
    """of the answers of the first upstream"""
    greedy: Sequence[str] | None = None
    """this round's upstream without chance, where that is asked for"""


class Likelihoods(NamedTuple):
    """What the models find likely: the watched corrections, by this round and by its start, and its own answers."""

    now: Sequence[Likelihood] = ()
    before: Sequence[Likelihood] = ()
    kl: Interval = Interval(nan, nan, nan)
    """of `likelihood.divergence`"""


class Yardstick(NamedTuple):
    """What every round of a study is measured by."""

    judge: Judge
    qualities: Sequence[Quality]
    tokens: Tokens
    oracle: Literal["", "world"] = ""


def token_count(tokenizer: Any) -> Tokens:
    """How many tokens a text has, without what a tokenizer puts around it."""
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def measure(held_out: HeldOut, likely: Likelihoods, by: Yardstick, *, scratch: Path) -> Found:
    """All figures of a round; the judge's verdicts are kept in the folder `scratch`, and none is asked for twice.

    For round 0 itself `now`, `accepted` and `first` are the same. Where all prompts gave the same figure, its interval
    is that of Wilson, but for answers that are all as they were, whose net rate is zero. Raises ValueError for no
    held-out prompts, MisuseError for a question that the oracle does not know, and what the judge raises.
    """
    last, first = (_compared(held_out, old, by, scratch) for old in (held_out.accepted, held_out.first))
    lengths = _lengths(held_out, by.tokens)
    good = marks(by.oracle, held_out.questions, held_out.now)
    greedy = None if held_out.greedy is None else marks(by.oracle, held_out.questions, held_out.greedy)
    return Found(
        good=None if good is None else _share(good, held_out.questions),
        good_greedy=None if greedy is None else fmean(greedy),
        net=_net(last, held_out.questions),
        net_first=_net(first, held_out.questions),
        chosen=token_mean(likely.now),
        chosen_before=token_mean(likely.before),
        length=lengths["now"] / lengths["corrections"] if lengths["corrections"] else nan,
        kl=likely.kl.value,
        refusals=fmean(needless(held_out.now, held_out.corrections)),
        figures={
            "held_out": len(held_out.questions),
            "judge": _judge_told(by.judge, last),
            "counts": {"accepted": _counts(last), "first": _counts(first)},
            "tokens": lengths,
            "good": _marked(held_out, by),
            **({} if good is None else {"good_marks": written_marks(good)}),
            "refusals": {name: fmean(needless(said, held_out.corrections)) for name, said in _earlier(held_out)},
            "watched": len(likely.now),
            "chosen_gain": _listed(mean_gap(likely.now, likely.before)),
            "kl": _listed(likely.kl),
        },
    )


def found_to_json(found: Found) -> dict[str, Any]:
    """The figures as JSON holds them: an interval as [value, low, high], what is not a number as null."""
    return {
        **finite(found._asdict()),
        "good": None if found.good is None else _listed(found.good),
        "net": {name: _listed(one) for name, one in found.net.items()},
        "net_first": {name: _listed(one) for name, one in found.net_first.items()},
    }


def found_of(kept: Mapping[str, Any]) -> Found:
    """The figures that `found_to_json` wrote."""
    numbers = {name: _number(kept[name]) for name in ("chosen", "chosen_before", "length", "kl", "refusals")}
    return Found(
        good=None if kept["good"] is None else _interval(kept["good"]),
        good_greedy=kept["good_greedy"],
        net={name: _interval(one) for name, one in kept["net"].items()},
        net_first={name: _interval(one) for name, one in kept["net_first"].items()},
        **numbers,
        figures=kept["figures"],
    )


def _compared(held_out: HeldOut, old: Sequence[str], by: Yardstick, scratch: Path) -> Compared:
    sides = [Sides(*one) for one in zip(held_out.questions, old, held_out.now, strict=True)]
    return compare(by.judge, sides, by.qualities, scratch / "verdicts.jsonl")


def _judge_told(judge: Judge, compared: Compared) -> dict[str, Any]:
    verdicts = [one for found in compared.verdicts.values() for one in found]
    return {"name": judge.name, **rates(verdicts)._asdict()}


def _net(compared: Compared, questions: Sequence[Question]) -> dict[str, Interval]:
    if not compared.differ:
        return dict.fromkeys(compared.values, NOTHING)
    return {name: _over_prompts(values, questions, lowest=-1.0) for name, values in compared.values.items()}


def _share(marked: Sequence[bool], questions: Sequence[Question]) -> Interval:
    return _over_prompts([float(one) for one in marked], questions, lowest=0.0)


def _over_prompts(values: Sequence[float], questions: Sequence[Question], *, lowest: float) -> Interval:
    return widened(mean_interval(values, questions), len({*questions}), lowest=lowest)


def _counts(compared: Compared) -> dict[str, dict[str, int]]:
    signs = {"wins": 1, "losses": -1, "ties": 0}
    return {
        name: {word: values.count(sign) for word, sign in signs.items()} for name, values in compared.values.items()
    }


def _marked(held_out: HeldOut, by: Yardstick) -> dict[str, list[float | None]]:
    """The oracle's shares of what stands beside this round's answers; nothing without an oracle."""
    beside = [*_earlier(held_out), ("corrections", held_out.corrections)]
    found = {name: marks(by.oracle, held_out.questions, said) for name, said in beside}
    return {name: _listed(_share(one, held_out.questions)) for name, one in found.items() if one is not None}


def _earlier(held_out: HeldOut) -> list[tuple[str, Sequence[str]]]:
    return [("accepted", held_out.accepted), ("first", held_out.first)]


def _lengths(held_out: HeldOut, tokens: Tokens) -> dict[str, float]:
    """Mean tokens of each kind of answer."""
    said = [("now", held_out.now), *_earlier(held_out), ("corrections", held_out.corrections)]
    return {name: fmean(map(tokens, texts)) for name, texts in said}


def _listed(interval: Interval) -> list[float | None]:
    return finite(list(interval))


def _interval(ends: Sequence[float | None]) -> Interval:
    return Interval(*map(_number, ends))


def _number(value: float | None) -> float:
    return nan if value is None else value
