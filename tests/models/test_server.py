"""Laws of waiting for a server and of errors on one line."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.models.server import one_line, seconds_to_wait

NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


@given(st.integers(0, 10**6))
def test_seconds_and_date_ask_for_the_same_wait(seconds: int) -> None:
    """`Retry-After` may be a number or a date."""
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert seconds_to_wait(str(seconds), NOW) == seconds_to_wait(date, NOW) == seconds


def test_a_date_in_the_past_asks_for_no_wait() -> None:
    """A wait is never negative."""
    assert seconds_to_wait("Tue, 03 Feb 2015 04:05:06 GMT", NOW) == 0
    assert seconds_to_wait("Tue, 03 Feb 2026 04:05:07 -0000", NOW) == 1


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1.5", "nan", "Tue, 99 Feb 2026 04:05:06 GMT", "²"])
def test_a_header_without_sense_asks_for_nothing(header: str | None) -> None:
    """Without a wait that can be understood, the usual one applies."""
    assert seconds_to_wait(header, NOW) is None


@given(st.text())
def test_an_error_is_one_printable_line(text: str) -> None:
    """Whatever a server sends, no line break and no control character reaches the terminal."""
    line = one_line(text)
    assert line.isprintable()
    assert "".join(line.split()) == "".join(letter for letter in text if letter.isprintable() and not letter.isspace())
