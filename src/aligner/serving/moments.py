"""Dates as people write them."""

from datetime import UTC, datetime

from aligner.errors import MisuseError


def moment_of(text: str | None, name: str) -> float | None:
    """A date, perhaps with a time, as seconds since 1970; it is UTC unless it says otherwise.

    Raises MisuseError, which calls it `name`.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise MisuseError(f'{name} "{text}" is no date such as 2026-11-25 or 2026-11-25T08:00+01:00') from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
