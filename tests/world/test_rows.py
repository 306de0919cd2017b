"""Laws of the rows that the closed world makes."""

from collections import Counter

import pytest
from scipy.stats import binomtest

from aligner.world.families import FAMILIES
from aligner.world.flaws import HURTS
from aligner.world.oracle import mark
from aligner.world.profiles import PROFILES, Profile
from aligner.world.questions import read_question
from aligner.world.rows import Row, rows, training_rows
from aligner.world.words import OBJECTS, PERSONS, TOWNS, pool

_TRAINING = list(training_rows(count=4_000, seed=1))


def _held_out(profile: Profile) -> list[Row]:
    return list(rows(profile, count=150, seed=2, split="unseen"))


def test_the_world_is_as_large_as_it_claims() -> None:
    """There are at least twelve families of five phrasings, 500 names, and eleven upstreams, three of them unseen."""
    assert len(FAMILIES) >= 12
    assert all(len(family.questions) >= 5 for family in FAMILIES)
    assert len(set(PERSONS)) >= 500
    assert len(PROFILES) >= 11
    assert sum(not profile.seen for profile in PROFILES.values()) >= 3
    assert len({tuple(profile.habits) for profile in PROFILES.values()}) == len(PROFILES)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_every_correction_is_good(profile: Profile) -> None:
    """The oracle finds nothing wrong in what a perfect editor makes of an answer."""
    assert [row for row in _held_out(profile) if not mark(row.asked, row.correction).good] == []


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_an_answer_is_flawed_exactly_where_it_was_spoilt(profile: Profile) -> None:
    """The oracle, which sees only the text, finds each flaw in the quality that it hurts, and none in good answers."""
    for row in _held_out(profile):
        marks = mark(row.asked, row.answer)
        assert marks.good == (not row.flaws), row
        assert not any(marks.of(HURTS[flaw]) for flaw in row.flaws), row


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_the_rate_of_flaws_is_the_one_that_is_named(profile: Profile) -> None:
    """An upstream spoils the share of answers that its profile says, between 30 and 70 %."""
    flawed = sum(bool(row.flaws) for row in _held_out(profile))
    assert 0.3 <= profile.rate <= 0.7
    assert binomtest(flawed, 150, profile.rate).pvalue > 1e-4


def test_good_answers_are_identity_rows() -> None:
    """A row without flaws has its answer as its correction, and a row with flaws never has."""
    assert all(row.triple.is_identity == (not row.flaws) for row in _TRAINING)


def test_training_never_sees_what_is_held_out() -> None:
    """No held-out name, object, phrasing or upstream occurs in a training row."""
    names = {name for kind in ("person", "town", "object") for name in pool(kind, "unseen")}
    texts = [f" {row.asked.text} {row.answer} {row.correction} " for row in _TRAINING]
    assert not [name for name in names if any(f" {name} " in text for text in texts)]
    phrasings = {row.asked.family.questions[-1].format_map(row.asked.values) for row in _TRAINING}
    assert phrasings.isdisjoint(row.asked.text for row in _TRAINING)
    assert all(PROFILES[row.profile].seen for row in _TRAINING)


def test_every_part_of_a_held_out_name_is_known() -> None:
    """What is held out is new as a whole only: each half of it stands in some name of training."""
    for names, kind in ((OBJECTS, "object"), (TOWNS, "town"), (PERSONS, "person")):
        seen = pool(kind, "seen")  # pyright: ignore[reportArgumentType]
        for name in pool(kind, "unseen"):
            assert any(other[:2] == name[:2] for other in seen)
            assert any(other[-2:] == name[-2:] for other in seen)
        assert len(seen) < len(names)


def test_the_same_arguments_give_the_same_rows() -> None:
    """Rows depend on their arguments alone, and a longer run begins with the shorter one."""
    profile = PROFILES["sloppy"]
    few, more, others = (
        list(rows(profile, count=count, seed=seed, split="seen")) for count, seed in ((20, 5), (40, 5), (20, 6))
    )
    assert few == more[:20]
    assert few != others


def test_training_rows_take_the_seen_upstreams_in_turn() -> None:
    """Every seen upstream gives the same number of training rows."""
    counts = Counter(row.profile for row in _TRAINING)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_question_is_read_back_from_its_text() -> None:
    """Reading the text of a question gives the family and the values that it was asked with."""
    for row in _TRAINING[:500]:
        assert read_question(row.asked.text) == row.asked
    assert read_question("How many angels dance on a pin?") is None
