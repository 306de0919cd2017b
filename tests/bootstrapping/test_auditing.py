"""Laws of the audit: which decisions are looked at, and what the words of others make of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.bootstrapping.auditing import audit, audited_by_people, sample
from aligner.bootstrapping.nouns import Gated
from aligner.errors import InputFileError, MisuseError
from aligner.judge import load_judge
from aligner.world.profiles import PROFILES
from aligner.world.rows import rows

FATES = st.sampled_from(["learnt", "not preferred", "unchanged", "cut off", "small edit"])
HELPFUL = ("helpful",)


def gated(*fates: Any) -> list[Gated]:
    """Rows of those fates, each with a question of its own."""
    return [Gated(f"Q{i}", "a", "b", fate, {}) for i, fate in enumerate(fates)]


def filled_in(path: Path, *said: object) -> None:
    """Write what people say into a sample."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [json.dumps(row | {"people": word}) for row, word in zip(found, said, strict=True)]
    path.write_text("".join(f"{line}\n" for line in lines))


@given(st.lists(FATES, max_size=40), st.integers(0, 30), st.integers(0, 3))
def test_a_sample_is_half_of_each_decision_as_far_as_there_are(fates: list[str], count: int, seed: int) -> None:
    """It has `count` decisions or all, of neither kind more than the half unless the other lacks them."""
    judged = gated(*fates)
    found = sample(judged, count=count, seed=seed)
    there = [fates.count(fate) for fate in ("learnt", "not preferred")]
    drawn = [sum(row.fate == fate for row in found) for fate in ("learnt", "not preferred")]
    assert sum(drawn) == len(found) == min(count, sum(there))
    for mine, other, others_there in ((*drawn, there[1]), (*drawn[::-1], there[0])):
        assert mine <= (count + 1) // 2 or other == others_there
    assert found == sorted(found, key=judged.index) == sample(judged, count=count, seed=seed)


def test_another_seed_draws_another_sample() -> None:
    """The sample is drawn by the seed."""
    judged = gated(*["learnt", "not preferred"] * 50)
    assert sample(judged, count=20, seed=0) != sample(judged, count=20, seed=1)


def test_a_second_judge_that_says_the_same_agrees_wholly(tmp_path: Path) -> None:
    """Where the second judge would decide as the gate did, agreement and kappa are 1; turned round they are lowest."""
    world = [
        row for profile in PROFILES.values() for row in rows(profile, count=4, seed=0, split="unseen") if row.flaws
    ]
    learnt = [Gated(row.asked.text, row.answer, row.correction, "learnt", {}) for row in world]
    others = [Gated(row.asked.text, row.correction, row.answer, "not preferred", {}) for row in world]
    judge, path = load_judge("world:"), tmp_path / "audit.jsonl"
    same = audit(judge, [*learnt, *others], count=20, seed=0, qualities=judge.qualities, path=path)
    assert (same.rows, same.kappa) == (20, 1)
    assert same.agreement
    assert same.agreement.value == same.agreement.high == 1 > same.agreement.low > 0.8
    assert "20 decisions the oracle and the gate agree" in same.told
    turned = [row._replace(fate="not preferred") for row in learnt] + [row._replace(fate="learnt") for row in others]
    other = audit(judge, turned, count=20, seed=0, qualities=judge.qualities, path=path)
    assert (other.agreement and other.agreement.value, other.kappa) == (0, -1)
    assert all(json.loads(line)["second"].keys() == set(judge.qualities) for line in path.read_text().splitlines())


def test_without_a_judge_the_sample_waits_for_people(tmp_path: Path) -> None:
    """Nothing is counted before people have looked, and each row has a place for their word."""
    path = tmp_path / "audit.jsonl"
    judged = gated("learnt", "unchanged", "not preferred")
    found = audit(None, judged, count=10, seed=0, qualities=HELPFUL, path=path)
    assert found[:3] == audited_by_people(path)[:3] == (2, None, None)
    assert found.told == "2 decisions of the gate wait for people in audit.jsonl."
    elsewhere = audit(None, judged, count=10, seed=0, qualities=HELPFUL, path=path, named="audit-1f.jsonl")
    assert elsewhere.told == "2 decisions of the gate wait for people in audit-1f.jsonl."
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert written == [row._asdict() | {"people": ""} for row in judged if row.fate != "unchanged"]


def test_people_agree_with_what_they_would_have_decided(tmp_path: Path) -> None:
    """A tie and a better answer are no reason to learn; rows that nobody looked at do not count."""
    path = tmp_path / "audit.jsonl"
    audit(None, gated(*["learnt"] * 3, *["not preferred"] * 3), count=6, seed=0, qualities=HELPFUL, path=path)
    filled_in(path, "correction", "tie", "", "tie", "answer", "correction")
    found = audited_by_people(path)
    assert found.rows == 5
    assert found.agreement
    assert found.agreement.value == pytest.approx(3 / 5)
    assert found.agreement.low < 3 / 5 < found.agreement.high
    assert found.kappa == pytest.approx(1 / 6)
    assert "5 decisions people and the gate agree" in found.told


@pytest.mark.parametrize("said", ["corection", 1, ["tie"]])
def test_a_word_that_is_none_is_told_by_its_line(tmp_path: Path, said: object) -> None:
    """What people mistype is not guessed."""
    path = tmp_path / "audit.jsonl"
    audit(None, gated("learnt", "learnt"), count=2, seed=0, qualities=HELPFUL, path=path)
    filled_in(path, "tie", said)
    with pytest.raises(InputFileError, match=r'audit\.jsonl:2: "people" is none of answer, correction, tie, nor empty'):
        audited_by_people(path)


def test_nothing_to_audit_is_said(tmp_path: Path) -> None:
    """A round without decisions has no agreement, and a judge that cannot judge is refused all the same."""
    judge, path = load_judge("refusal:"), tmp_path / "audit.jsonl"
    found = audit(judge, gated("unchanged"), count=5, seed=0, qualities=HELPFUL, path=path)
    assert found[:3] == (0, None, None)
    assert path.read_text() == ""
    with pytest.raises(MisuseError, match="cannot judge what is honest"):
        audit(judge, [], count=5, seed=0, qualities=("honest",), path=path)
