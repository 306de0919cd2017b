"""What came back, into the ledger: joined by key, whatever the order of the lines; doing it again does nothing."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from aligner.building.batches.lines import Terms, outcome_of, read_line
from aligner.building.ledger import Ledger
from aligner.building.nouns import Failure, Reply


class Collected(NamedTuple):
    """What files of results held for the requests of one batch file; requests are counted."""

    done: int = 0
    failed: int = 0
    left: tuple[str, ...] = ()
    """keys that no line is about"""
    strange: int = 0
    """lines that are torn, or about no request of this file"""


def collect(ledger: Ledger, keys: Iterable[str], results: Iterable[Path], terms: Terms) -> Collected:
    """Put what the results say of these requests; the first line about a request counts, what is known stays."""
    left = dict.fromkeys(keys)
    done = failed = strange = 0
    for line in _lines(results):
        result = read_line(line)
        if result is None or result.key not in left:
            strange += 1
            continue
        del left[result.key]
        # What an earlier run put and did not live to note costs nothing again.
        outcome = ledger.reply(result.key) or ledger.failure(result.key)
        request = None if outcome else ledger.request(result.key)
        if request:
            outcome = outcome_of(result.line, request, terms)
            ledger.put(result.key, outcome)
        done, failed = done + isinstance(outcome, Reply), failed + isinstance(outcome, Failure)
    return Collected(done, failed, tuple(left), strange)


def _lines(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        if path.exists():
            with path.open("rb") as file:
                yield from (line for line in file if line.strip())
