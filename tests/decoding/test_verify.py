"""Laws of the verdict on drafts."""

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aligner.decoding.sampling import Greedy, Sampler, sampler_of
from aligner.decoding.verify import Check, verify
from aligner.records import SamplingParams

VOCABULARY = 12
SEEDED = sampler_of(SamplingParams(temperature=1.0, seed=4))
# For each row: the length of its draft, the places that differ from the model's own tokens, and tokens before it.
ROWS = st.lists(
    st.tuples(st.integers(0, 140), st.sets(st.integers(0, 140), max_size=3), st.integers(0, 5)), min_size=1, max_size=4
)


@dataclass
class Head:
    """The logits of a pass, which remembers what was asked for."""

    table: torch.Tensor
    asked: list[int] = field(default_factory=list[int])

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """The logits of some tokens."""
        self.asked += rows.tolist()
        return self.table[rows]


def head_of(tokens: int) -> Head:
    """Random logits for so many tokens."""
    return Head(torch.randn(tokens, VOCABULARY, dtype=torch.float64, generator=torch.Generator().manual_seed(tokens)))


def own_tokens(check: Check, head: Head) -> list[int]:
    """What the model chooses behind each draft token, all at once."""
    return check.sampler.choose(head.table[list(check.wanted)], check.position).tolist()


def a_pass(rows: list[tuple[int, set[int], int]], sampler: Sampler) -> tuple[Head, list[Check]]:
    """Rows laid end to end, with drafts that are the model's own tokens but for the places named."""
    checks: list[Check] = []
    start = 0
    for length, _, before in rows:
        checks.append(Check([0] * length, start + before, position=before * 7, sampler=sampler))
        start += before + length + 1
    head = head_of(start)
    for check, (length, wrong, _) in zip(checks, rows, strict=True):
        chosen = own_tokens(check, head)[:length]
        check.draft = [(token + (place in wrong)) % VOCABULARY for place, token in enumerate(chosen)]
    return head, checks


@pytest.mark.parametrize("sampler", [Greedy(), SEEDED], ids=["greedy", "seeded"])
@given(rows=ROWS)
def test_the_result_is_the_longest_beginning_that_agrees_and_one_token(
    sampler: Sampler, rows: list[tuple[int, set[int], int]]
) -> None:
    """However the logits are chunked, and whatever else is in the pass."""
    head, checks = a_pass(rows, sampler)
    verify(checks, head, torch.device("cpu"))
    for check, (length, wrong, _) in zip(checks, rows, strict=True):
        assert check.accepted == min([place for place in wrong if place < length], default=length)
        assert check.tokens == own_tokens(check, head)[: check.accepted + 1]


@given(rows=ROWS)
def test_the_head_reads_little_behind_the_first_mismatch(rows: list[tuple[int, set[int], int]]) -> None:
    """No logits are asked for twice, and at most eight times as many as tokens come of them, and a chunk."""
    head, checks = a_pass(rows, Greedy())
    verify(checks, head, torch.device("cpu"))
    assert len(set(head.asked)) == len(head.asked)
    assert set(head.asked) <= {row for check in checks for row in check.wanted}
    assert len(head.asked) <= sum(min(32 + 8 * len(check.tokens), len(check.wanted)) for check in checks)


@pytest.mark.parametrize("to_the_end", [False, True])
@given(rows=ROWS)
def test_probabilities_are_those_of_the_draft_tokens(to_the_end: bool, rows: list[tuple[int, set[int], int]]) -> None:
    """They reach at least to the first mismatch, and to the end of the draft if that is asked for; tokens stay."""
    head, checks = a_pass(rows, Greedy())
    for check in checks:
        check.scored, check.to_the_end = True, to_the_end
    verify(checks, head, torch.device("cpu"))
    for check in checks:
        places = list(zip(check.wanted, check.draft, strict=False))
        expected = [float(head.table[row].softmax(-1)[token]) for row, token in places]
        found = check.probabilities
        assert found == pytest.approx(expected[: len(found)])
        assert len(found) >= (len(check.draft) if to_the_end else min(check.accepted + 1, len(check.draft)))
        assert check.tokens == own_tokens(check, head)[: check.accepted + 1]


def test_nobody_pays_for_probabilities_that_nobody_wants() -> None:
    """Without the wish there are none."""
    head, checks = a_pass([(50, set(), 0)], Greedy())
    verify(checks, head, torch.device("cpu"))
    assert checks[0].probabilities == []


@given(script=st.lists(st.integers(0, VOCABULARY - 1), min_size=100, max_size=100), position=st.integers(0, 20))
def test_logits_are_adjusted_by_their_position_in_the_output(script: list[int], position: int) -> None:
    """A bonus for one token at each position makes the output those tokens, in whatever chunks it is judged."""

    def adjust(logits: torch.Tensor, first: int) -> torch.Tensor:
        bonus = torch.zeros_like(logits)
        bonus[range(len(logits)), script[first : first + len(logits)]] = 50
        return logits + bonus

    check = Check(script[position : position + 70], 0, position=position, adjust=adjust, scored=True)
    verify([check], head_of(71), torch.device("cpu"))
    assert check.tokens == script[position : position + 71]
    assert min(check.probabilities) == pytest.approx(1)


def test_no_checks_ask_for_nothing() -> None:
    """An empty pass has no logits."""
    head = head_of(1)
    verify([], head, torch.device("cpu"))
    assert head.asked == []
