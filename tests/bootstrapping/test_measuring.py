"""Laws of how a round is measured."""

import asyncio
from collections.abc import Sequence
from functools import cache
from math import isnan, nan
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.bootstrapping.guarding import weigh
from aligner.bootstrapping.likelihood import Likelihood
from aligner.bootstrapping.marking import declines, marks, needless
from aligner.bootstrapping.measuring import (
    HeldOut,
    Likelihoods,
    Yardstick,
    found_of,
    found_to_json,
    measure,
    token_count,
)
from aligner.bootstrapping.nouns import Found
from aligner.config.bootstrapping import BootstrapGuards
from aligner.correcting.writers import shipped
from aligner.errors import MisuseError, ModelError
from aligner.judge import MarkJudge, load_judge
from aligner.models.hf import CausalLM, HFModel, load_causal_lm
from aligner.records import SamplingParams, as_messages
from aligner.scoring.intervals import Interval
from aligner.scoring.shares import wilson
from aligner.world.families import FAMILIES, REFUSALS
from aligner.world.questions import Asked, ask
from aligner.world.rows import good_answer

_QUALITIES = ("helpful", "harmless", "honest")
_numbers = st.floats(allow_infinity=False)
_intervals = st.builds(Interval, _numbers, _numbers, _numbers)


def test_corrections_beat_what_the_upstream_says(tmp_path: Path) -> None:
    """By the oracle as a judge, good answers are certainly better than an upstream's own, whose figures are told."""
    held_out = _held_out(now=_good(), accepted=_drawn(0))
    found = measure(held_out, Likelihoods(), _by(), scratch=tmp_path)
    good = marks("world", held_out.questions, held_out.accepted)
    assert good is not None
    assert 0 < sum(good) < len(good)
    assert found.good == (1.0, *(wilson(len(good), len(good)) or ()))
    assert found.figures["good_marks"] == "1" * len(good)
    assert found.net["all"].value == pytest.approx(1 - sum(good) / len(good))
    assert found.net["all"].low > 0
    assert set(found.net) == {*_QUALITIES, "all"}
    assert found.figures["good"]["accepted"][0] == pytest.approx(sum(good) / len(good))
    assert found.length == 1.0
    assert weigh(found, found, BootstrapGuards()).accepted


def test_the_same_answers_gain_nothing(tmp_path: Path) -> None:
    """Where a round says what the last one said, all is tied, nobody is asked, and the gain guard trips."""
    judge = MarkJudge("nobody", _unasked, _QUALITIES)
    found = measure(_held_out(_drawn(0), _drawn(0)), Likelihoods(), _by(judge), scratch=tmp_path)
    assert set(found.net.values()) == set(found.net_first.values()) == {Interval(0.0, 0.0, 0.0)}
    verdict = weigh(found, found, BootstrapGuards())
    assert [guard.name for guard in verdict.guards if guard.tripped] == ["gain"]


def test_what_was_seen_nowhere_may_be_somewhere(tmp_path: Path) -> None:
    """A share of none, and a net rate that is the same for all, are as uncertain as Wilson's interval for none."""
    refusing = [f"{REFUSALS[0]} " * (2 + place) for place in range(len(_asked()))]
    for mark, rate in ((len, 1.0), (lambda answer: -len(answer), -1.0), (lambda _: 0, 0.0)):
        judge = MarkJudge("length", lambda _, answer, __, mark=mark: float(mark(answer)), _QUALITIES)
        found = measure(_held_out(refusing, ["No."] * len(refusing)), Likelihoods(), _by(judge), scratch=tmp_path)
        none, unseen = wilson(0, len(refusing)) or (nan, nan)
        ends = rate - unseen * (rate + 1), rate + unseen * (1 - rate)
        assert found.net["all"] == pytest.approx((rate, *ends))
        assert "1" in found.figures["good_marks"] or found.good == (0.0, none, unseen)
        (tmp_path / "verdicts.jsonl").unlink()


def test_trading_places_turns_the_net_rate_round(tmp_path: Path) -> None:
    """Whoever is compared with whom, one's gain is the other's loss, by each quality and by all."""
    there = measure(_held_out(_drawn(0), _drawn(1)), Likelihoods(), _by(), scratch=tmp_path)
    back = measure(_held_out(_drawn(1), _drawn(0)), Likelihoods(), _by(), scratch=tmp_path)
    for name, net in there.net.items():
        assert back.net[name] == pytest.approx((-net.value, -net.high, -net.low))
    for name, count in there.figures["counts"]["accepted"].items():
        swapped = back.figures["counts"]["accepted"][name]
        assert (count["wins"], count["losses"]) == (swapped["losses"], swapped["wins"])
        assert sum(count.values()) == len(_asked())


def test_verdicts_are_not_paid_for_twice(tmp_path: Path) -> None:
    """A measurement that ended in between goes on behind the verdicts that it had, and finds what it would have."""
    held_out = _held_out(_good(), _drawn(0))
    whole, calls = _counting(limit=10_000)
    expected = measure(held_out, Likelihoods(), _by(whole), scratch=tmp_path / "whole")
    broken, before = _counting(limit=20)
    with pytest.raises(ModelError, match="no more"):
        measure(held_out, Likelihoods(), _by(broken), scratch=tmp_path / "cut")
    with (tmp_path / "cut" / "verdicts.jsonl").open("ab") as file:
        file.write(b'{"key": "torn')
    again, after = _counting(limit=10_000)
    assert measure(held_out, Likelihoods(), _by(again), scratch=tmp_path / "cut") == expected
    assert 0 < len(after) < len(calls)
    assert len(before) + len(after) <= len(calls) + 1
    once, none = _counting(limit=0)
    assert measure(held_out, Likelihoods(), _by(once), scratch=tmp_path / "cut") == expected
    assert none == []


def test_likelihoods_lengths_and_refusals_are_told(tmp_path: Path) -> None:
    """The figures are means over tokens, ratios of means, and shares of what was refused without need."""
    asked = _asked()
    refusing = [REFUSALS[place % len(REFUSALS)] for place in range(len(asked))]
    likely = Likelihoods([Likelihood(-9.0, 3)], [Likelihood(-3.0, 3)], Interval(0.5, 0.4, 0.6))
    held_out = _held_out(refusing, _drawn(0))._replace(greedy=_good())
    found = measure(held_out, likely, _by(), scratch=tmp_path)
    assert (found.chosen, found.chosen_before, found.kl, found.good_greedy) == (-3.0, -1.0, 0.5, 1.0)
    assert found.figures["chosen_gain"][0] == -2.0
    assert found.refusals == pytest.approx(sum(not one.family.refuses for one in asked) / len(asked))
    tokens = token_count(_upstream().tokenizer)
    assert found.length == pytest.approx(sum(map(tokens, refusing)) / sum(map(tokens, _good())))
    tripped = {guard.name for guard in weigh(found, _first(), BootstrapGuards()).guards if guard.tripped}
    assert {"chosen", "refusals", "worse", "gain"} <= tripped


@given(st.randoms(use_true_random=False), st.sampled_from(FAMILIES))
def test_a_good_answer_of_the_world_declines_where_it_should(random: Random, family: Any) -> None:
    """Of all good answers exactly those of the families that refuse decline; what the world calls a refusal does."""
    asked = ask(random, family, "unseen")
    text = good_answer(random, asked).text
    assert declines(text) == family.refuses
    assert all(map(declines, REFUSALS))
    assert needless([*REFUSALS], [text] * len(REFUSALS)) == [not family.refuses] * len(REFUSALS)
    assert needless([text], [REFUSALS[0]]) == [False]


def test_only_the_oracle_knows_what_is_good() -> None:
    """Without an oracle nothing is marked; a question that the world does not know is an error that names it."""
    assert marks("", ["Who knows?"], ["I."]) is None
    with pytest.raises(MisuseError, match=r'"Who knows\?"'):
        marks("world", ["Who knows?"], ["I."])


@given(
    st.builds(
        Found,
        good=st.none() | _intervals,
        good_greedy=st.none() | st.floats(0, 1),
        net=st.dictionaries(st.sampled_from([*_QUALITIES, "all"]), _intervals),
        net_first=st.dictionaries(st.sampled_from([*_QUALITIES, "all"]), _intervals),
        chosen=_numbers,
        chosen_before=_numbers,
        length=_numbers,
        kl=_numbers,
        refusals=_numbers,
        figures=st.just({"held_out": 3, "kl": [None, 0.1, 0.2]}),
    )
)
def test_figures_outlive_json(found: Found) -> None:
    """What was written down and read again is the same, figures that are not numbers included."""
    back = found_of(orjson.loads(orjson.dumps(found_to_json(found))))
    assert _comparable(back) == _comparable(found)


def _comparable(value: Any) -> Any:
    """The same, with a word where there is no number: that does not equal itself."""
    if isinstance(value, dict):
        return {name: _comparable(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return type(value), [_comparable(one) for one in value]
    return "none" if isinstance(value, float) and isnan(value) else value


@cache
def _asked() -> list[Asked]:
    random = Random(3)
    return [ask(random, family, "unseen") for family in FAMILIES for _ in range(2)]


@cache
def _good() -> list[str]:
    return [good_answer(Random(place), asked).text for place, asked in enumerate(_asked())]


@cache
def _upstream() -> CausalLM:
    return load_causal_lm(shipped("upstream"), "cpu")


@cache
def _drawn(seed: int) -> list[str]:
    """Answers of the shipped upstream, sampled."""
    model = HFModel("upstream", _upstream())
    how = SamplingParams(temperature=1.0, max_tokens=64, seed=seed)
    return [asyncio.run(model.complete(as_messages(asked.text), how)).text for asked in _asked()]


@cache
def _first() -> Found:
    return Found(None, None, {}, {}, nan, nan, nan, 0.0, 0.0)


def _held_out(now: Sequence[str], accepted: Sequence[str]) -> HeldOut:
    return HeldOut([asked.text for asked in _asked()], now, accepted, accepted, _good())


def _by(judge: Any = None) -> Yardstick:
    return Yardstick(judge or load_judge("world:"), _QUALITIES, token_count(_upstream().tokenizer), "world")


def _counting(*, limit: int) -> tuple[MarkJudge, list[str]]:
    """A judge that takes long answers for better, what it was asked, and how often it can be."""
    calls = list[str]()

    def mark(_: Any, answer: str, __: Any) -> float:
        if len(calls) >= limit:
            raise ModelError("counting: no more calls")
        calls.append(answer)
        return float(len(answer))

    return MarkJudge("counting", mark, _QUALITIES), calls


def _unasked(*_: Any) -> float:
    raise ModelError("nobody: was asked")
