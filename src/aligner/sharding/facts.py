"""What is to be known of a part before its rows are put in place."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import orjson

from aligner.files.paths import beside

_ROWS = 1024


def facts_of(out: Path, count: Callable[[Sequence[Mapping[str, object]]], Counter[str]]) -> dict[str, object]:
    """Rows, counts and SHA-256 of the rows that are written for `out` and not yet put in its place.

    They are read from the file, since runs that were interrupted have written some of them.
    """
    digest, counts, rows = hashlib.sha256(), Counter[str](), 0
    with beside(out, ".partial").open("rb") as file:
        while lines := list(islice(file, _ROWS)):
            digest.update(b"".join(lines))
            rows += len(lines)
            counts.update(count([orjson.loads(line) for line in lines]))
    return {"rows": rows, "counts": dict(counts), "sha256": digest.hexdigest()}
