"""Convert the formats that people have to triples."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping

from aligner.config import ConvertConfig
from aligner.data.fields import row_of
from aligner.data.readers import Fields, NoTriple, Reader, reader_named
from aligner.files import BadRows, bad_rows_named, read, write_rows


def convert(config: ConvertConfig) -> None:
    """Stream the rows of a file into triples, and say on standard error how many there were and what was left out."""
    fields = Fields(question=config.question, answer=config.answer, correction=config.correction)
    reader = reader_named(config.format, fields)
    bad_rows = bad_rows_named(config.on_bad_row, config.out)
    without: Counter[str] = Counter()
    written = write_rows(config.out, _rows(config, reader, bad_rows=bad_rows, without=without))
    bad_rows.finish()
    print(_summary(written, {**without, **bad_rows.reasons}), file=sys.stderr)


def _rows(
    config: ConvertConfig, reader: Reader, *, bad_rows: BadRows, without: Counter[str]
) -> Iterator[Mapping[str, object]]:
    """The rows of the triples; the reasons why others give none are counted in `without`."""
    for _, reading in read(config.source, reader, bad_rows=bad_rows):
        if isinstance(reading, NoTriple):
            without[reading.reason] += 1
        else:
            yield row_of(reading)


def _summary(written: int, skipped: Mapping[str, int]) -> str:
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in sorted(skipped.items(), key=lambda item: -item[1]))
    total = sum(skipped.values())
    return f"{written + total:,} rows read, {written:,} triples written, {total:,} skipped" + (
        f" ({reasons})" if reasons else ""
    )
