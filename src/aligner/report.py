"""Report: what the Aligner would have done, on one page, to decide whether it may be switched on."""

import sys
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

from aligner.config import ReportConfig
from aligner.errors import InputFileError, MissingExtraError
from aligner.files import write_text_atomic
from aligner.jobs import progress

try:
    from aligner.serving.database import place_of
    from aligner.serving.moments import moment_of
    from aligner.serving.shadow.figures import Figures, Report
    from aligner.serving.shadow.page import page_of
    from aligner.serving.shadow.rows import ShadowRows
except ModuleNotFoundError as error:
    raise MissingExtraError("the correction log needs an extra: pip install 'aligner-llm[serve]'") from error


def report(config: ReportConfig) -> None:
    """Write the page, and say on standard error the figures that matter most.

    Raises InputFileError for a log that has nothing to report.
    """
    place, since = place_of(config.database), moment_of(config.since, "--since")
    with closing(ShadowRows(place, writable=False)) as rows, progress("report") as tick:
        found = _read(rows.report(config.mode, since), tick)
    if not found.figures.answers:
        raise InputFileError(f"{place.label}: {_nothing(config)}")
    if str(config.out) == "-":
        sys.stdout.write(page_of(found))
    else:
        write_text_atomic(Path(config.out), page_of(found))
    sys.stderr.write(_summary(found.figures) + "\n")


def _read(reading: Generator[int, None, Report], tick: Callable[[int], object]) -> Report:
    while True:
        try:
            tick(next(reading))
        except StopIteration as end:
            return end.value


def _nothing(config: ReportConfig) -> str:
    since = f" since {config.since}" if config.since else ""
    if config.mode == "any":
        return f"nothing was logged{since}"
    return (
        f"nothing was logged in mode {config.mode}{since}; `aligner serve --mode {config.mode} --log …` logs it, and "
        "`--mode any` reports on all that is there"
    )


def _summary(figures: Figures) -> str:
    changed, added = figures.changed, figures.added
    times = "" if added.p50 is None else f", {added.p50:.3f} s p50 and {added.p99:.3f} s p99 to correct one"
    return (
        f"{figures.answers:,} answers, {changed.share:.1%} would change "
        f"({changed.low:.1%} to {changed.high:.1%}){times}; "
        f"{sum(check.state == 'fail' for check in figures.checks)} checks fail"
    )
