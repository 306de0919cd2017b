"""What a build was begun with: once a stage has made rows, what decided about them stays as it was."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Literal

import orjson

from aligner.building.principles import load
from aligner.building.store import Store
from aligner.config import BuildAnnotator, BuildConfig, BuildUpstream
from aligner.errors import MisuseError

Held = Literal["questions", "answers", "corrections"]
"""stages that depend on settings; the verdicts are made anew each time, so theirs may change"""
_STAGES: tuple[Held, ...] = ("questions", "answers", "corrections")
_FREE = frozenset({"price_in", "price_out", "batch_price", "requests_per_minute", "tokens_per_minute", "at_a_time"})
_FREE_OF_MODELS = _FREE | {"attempts", "asks", "calling", "model"}
_OF_QUESTIONS = ("shortest_question", "longest_question", "near_duplicate", "overlap_words")
"""filters; the others look at triples"""


def hold_to(config: BuildConfig, store: Store) -> None:
    """Raise MisuseError where a stage was begun with something else; notes nothing.

    What may change between two runs: prices, limits, addresses, ways of calling, the number of asks, and all that only
    the verdicts depend on.
    """
    for stage in _STAGES:
        if (begun := store.value(_name(stage))) is not None:
            _compare(config, stage, orjson.loads(begun))


def begin(config: BuildConfig, store: Store, stage: Held) -> None:
    """Note what decides about the rows of a stage, when it makes the first ones; raise MisuseError where that differs.

    Later stages depend on it, too.
    """
    now = orjson.dumps(_decisive(config, stage)).decode()
    _compare(config, stage, orjson.loads(store.once(_name(stage), now)))


def _name(stage: Held) -> str:
    return f"{stage} decided by"


def _compare(config: BuildConfig, stage: Held, begun: Mapping[str, object]) -> None:
    for name, value in orjson.loads(orjson.dumps(_decisive(config, stage))).items():
        if begun.get(name) != value:
            raise MisuseError(
                f"{config.out}: was begun with other {name}; go on with those, or name another folder with --out"
            )


def _decisive(config: BuildConfig, stage: Held) -> dict[str, object]:
    if stage == "questions":
        return {
            "sources": [dict(_fields(source)) for source in config.sources],
            "filters of questions": {name: getattr(config.filters, name) for name in _OF_QUESTIONS},
            "splits": dict(_fields(config.splits)),
            "against": [dict(_fields(given)) for given in config.against],
            "seed": config.seed,
        }
    if stage == "answers":
        upstreams = [_settings(model) for model in config.upstreams]
        return {"upstreams": upstreams, "answers_per_question": config.answers_per_question}
    return {
        "annotators": [_settings(model) for model in config.annotators],
        "principles": load(config.principles).version_hash,
        "twice": config.twice,
    }


def _settings(model: BuildUpstream | BuildAnnotator) -> dict[str, object]:
    return {name: value for name, value in _fields(model) if name not in _FREE_OF_MODELS}


def _fields(table: Any) -> Iterator[tuple[str, object]]:
    return ((field.name, getattr(table, field.name)) for field in fields(table))
