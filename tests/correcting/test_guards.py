"""Laws of the reasons to keep an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.correcting.guards import GUARDS, cut_off, empty, over_long, sure_from
from aligner.records import Completion, Exchange


@given(st.text(), st.text(alphabet=" \n\t\u00a0\u2028"))
def test_blank_text_never_replaces_an_answer(answer: str, blank: str) -> None:
    """White space of any kind is no answer."""
    assert empty(Exchange("q", answer), Completion(blank)) == "the correction was empty"


@given(st.text(), st.text(), st.text().filter(lambda reason: reason not in ("stop", "context")))
def test_what_did_not_end_never_replaces_an_answer(answer: str, text: str, reason: str) -> None:
    """Only a completion that came to its own end was not cut off."""
    assert cut_off(Exchange("q", answer), Completion(text, reason)) == "the correction was cut off"
    assert cut_off(Exchange("q", answer), Completion(text, "stop")) is None
    assert "context" in str(cut_off(Exchange("q", answer), Completion(text, "context")))


@pytest.mark.parametrize("length", [0, 1, 300])
def test_over_long_begins_behind_four_answers_and_a_thousand(length: int) -> None:
    """The longest text that may replace an answer has a thousand characters and four times the answer's."""
    exchange, longest = Exchange("q", "a" * length), 1000 + 4 * length
    assert over_long(exchange, Completion("b" * longest)) is None
    assert over_long(exchange, Completion("b" * (longest + 1))) == "the correction was over-long"


@given(st.text().filter(str.strip))
def test_a_copy_is_never_guarded(answer: str) -> None:
    """No guard has anything against the answer itself."""
    assert [guard(Exchange("q", answer), Completion(answer)) for guard in GUARDS] == [None] * len(GUARDS)


@given(gate=st.floats(0, 1), confidence=st.none() | st.floats(0, 1), reason=st.sampled_from(["stop", "length"]))
def test_a_gate_keeps_from_its_confidence_on(gate: float, confidence: float | None, reason: str) -> None:
    """Whatever was written; a writer that does not say how sure it is passes every gate."""
    kept = sure_from(gate)(Exchange("q", "a"), Completion("b", reason, confidence=confidence))
    assert kept == ("gate" if confidence is not None and confidence >= gate else None)
