"""Laws of evidence: what is counted, among what, and when it is more than chance."""

from dataclasses import replace

from aligner.evaluating.cases import Case, Opinion
from aligner.evaluating.evidence import weigh
from aligner.evaluating.verdicts import tone
from aligner.tasks import Score

ANSWER = Case(upstream="u", task="t", item="0", category="", question="q", answer="a b", correction="a b")


def judged(number: int, opinion: Opinion, *, changed: bool = True) -> Case:
    """One pair that one judge saw."""
    return replace(ANSWER, item=str(number), correction="a c" if changed else "a b", opinions=(opinion,))


def test_a_judge_is_held_to_the_pairs_that_it_was_asked_about() -> None:
    """Of a hundred pairs eighty are equal: half of the other twenty change with the order, and one is not read."""
    tie = Opinion("j", "helpful", 0.5)
    cases = [judged(number, tie, changed=False) for number in range(80)]
    cases += [judged(80 + number, tie._replace(flipped=number < 10)) for number in range(19)]
    cases.append(judged(99, tie._replace(parsed=False)))
    (row,) = weigh(cases).judged
    assert (row.total, row.asked) == (100, 20)
    assert row.flips == 10 / 19
    assert row.unread == 1 / 20


def test_each_order_is_half_a_vote_where_that_was_asked_for() -> None:
    """A win in one order and a tie in the other adds a half to the net rate, and a whole where wins have to survive."""
    half = Opinion("j", "helpful", 0.75, halves=True)
    (row,) = weigh([judged(number, half) for number in range(4)]).judged
    assert row.net.value == 0.5
    (row,) = weigh([judged(number, half._replace(halves=False)) for number in range(4)]).judged
    assert row.net.value == 1.0


def test_a_handful_of_changes_is_not_more_than_chance() -> None:
    """Four fixed and none broken among many: the bootstrap leaves out zero, and McNemar's test does not."""
    cases = [
        replace(ANSWER, item=str(number), before=Score(number >= 4, ""), after=Score(True, "")) for number in range(400)
    ]
    (row,) = weigh(cases).marked
    assert row.gain.is_certain
    assert row.p == row.p_adjusted == 0.125
    assert tone(row.gain, row.p_adjusted) == "open"
    assert tone(row.gain, 0.01) == "good"
