"""The bounds of every number in a build's configuration."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from aligner.config import BuildConfig
from aligner.errors import MisuseError

Bounds = tuple[float, float]
_FROM_0: Bounds = (0, math.inf)
_FROM_1: Bounds = (1, math.inf)
_SHARE: Bounds = (0, 1)
_ASKED: Mapping[str, Bounds] = {
    "share": _SHARE,
    "temperature": _FROM_0,
    "top_p": _SHARE,
    "top_k": _FROM_0,
    "max_tokens": _FROM_1,
    "price_in": _FROM_0,
    "price_out": _FROM_0,
    "batch_price": _FROM_0,
    "requests_per_minute": _FROM_0,
    "tokens_per_minute": _FROM_0,
    "at_a_time": _FROM_1,
    "attempts": _FROM_1,
}
_BUILD: Mapping[str, Bounds] = {
    "answers_per_question": _FROM_0,
    "twice": _SHARE,
    "judged": _SHARE,
    "pilot": _FROM_0,
    "max_cost": _FROM_0,
    "rows_per_shard": _FROM_1,
    "shards": _FROM_0,
    "workers": _FROM_0,
}
_FILTERS: Mapping[str, Bounds] = {
    "shortest_question": _FROM_0,
    "longest_question": _FROM_1,
    "near_duplicate": _SHARE,
    "min_ratio": _FROM_0,
    "max_ratio": _FROM_0,
    "max_length": _FROM_1,
    "overlap_words": (1, 64),
    "max_overlap": _SHARE,
}
_SPLITS: Mapping[str, Bounds] = {"validation": _SHARE, "test": _SHARE}
_REVIEW: Mapping[str, Bounds] = {"port": (0, 65535), "twice": _SHARE, "inspected": _SHARE, "lease_minutes": _FROM_0}


def check_numbers(config: BuildConfig) -> None:
    """Raise MisuseError, one line, for a number that is out of its bounds, or is none."""
    for where, table, bounds in _tables(config):
        for name, (least, most) in bounds.items():
            _check(f"{where}{name}", getattr(table, name), least, most)
    filters, splits = config.filters, config.splits
    _check("splits.validation and splits.test together", splits.validation + splits.test, 0, 1)
    if 0 < filters.max_ratio < filters.min_ratio:
        raise MisuseError(f"filters.max_ratio {filters.max_ratio:g} is below filters.min_ratio {filters.min_ratio:g}")


def _tables(config: BuildConfig) -> Iterator[tuple[str, Any, Mapping[str, Bounds]]]:
    yield "", config, _BUILD
    yield "filters.", config.filters, _FILTERS
    yield "splits.", config.splits, _SPLITS
    yield "review.", config.review, _REVIEW
    for source in config.sources:
        yield f'source "{source.name or source.path}": ', source, {"sample": _FROM_0}
    for upstream in config.upstreams:
        yield f'upstream "{upstream.name}": ', upstream, {**_ASKED, "samples": _FROM_1}
    for annotator in config.annotators:
        yield f'annotator "{annotator.name}": ', annotator, {**_ASKED, "asks": _FROM_1}


def _check(what: str, value: float | None, least: float, most: float) -> None:
    if value is None or least <= value <= most:
        return
    if (least, most) == _SHARE:
        raise MisuseError(f"{what} is a share from 0 to 1, not {value:g}")
    if math.isinf(most):
        raise MisuseError(f"{what} begins at {least:g}, not at {value:g}")
    raise MisuseError(f"{what} goes from {least:g} to {most:g}, not to {value:g}")
