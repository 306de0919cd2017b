"""`manifest.json`: how many rows each stage had, what they cost, what they come from, and the hash of every file."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from aligner.building import principles
from aligner.building.ledger import Ledger
from aligner.building.nouns import Checked, Stage, Step
from aligner.building.shards_out import SCHEMA
from aligner.building.sources import licences_of
from aligner.building.store import Store
from aligner.config import BuildConfig, BuildUpstream
from aligner.config.building import BuildAnnotator

NAME = "manifest.json"
_HOW = frozenset(
    "stage out yes pilot max_cost failed engine ray_address shards shard workers device on_bad_row review".split()
)
"""what says how a run goes and nothing about its rows"""
_CALLING = frozenset("at_a_time attempts requests_per_minute tokens_per_minute".split())
_LEFT_OUT = frozenset(("config_sha256", "estimate", "judge", "seed"))
"""facts that differ from machine to machine, or stand in the configuration"""
_ADDRESS = re.compile(r"@https?://.*")
_STAGES: tuple[Stage, ...] = ("questions", "answers", "corrections", "verdicts")


class Counts:
    """What is counted while the rows are written."""

    def __init__(self) -> None:
        self._rows: dict[str, Counter[str]] = {}

    def add(self, checked: Checked) -> None:
        """Count a row."""
        self._count("splits", checked.split)
        self._count("kinds", checked.kind)
        origins = _origins(checked.facts)
        for source, licence in origins.items():
            self._count("sources", source)
            self._count(f"licences of {source}", licence)
        for licence in dict.fromkeys(origins.values()):
            self._count("licences", licence)
        for name in ("upstream", "annotator"):
            self._count(f"{name}s", str(checked.facts.get(name) or "unknown"))

    def of(self, what: str) -> dict[str, int]:
        """How many rows there are of each name."""
        return dict(sorted(self._rows.get(what, Counter()).items()))

    def _count(self, what: str, name: str) -> None:
        self._rows.setdefault(what, Counter())[name] += 1


def _origins(facts: Mapping[str, Any]) -> dict[str, str]:
    """The sources of a row with their licences: that of the question, and that of its answer where one gave it."""
    told = [("source", "licence"), *([("upstream", "answer_licence")] if "answer_place" in facts else [])]
    return {str(facts.get(name) or "unknown"): str(facts.get(licence) or "unknown") for name, licence in told}


def manifest(
    config: BuildConfig, store: Store, ledger: Ledger, facts: Mapping[str, Any], steps: Sequence[Step], counts: Counts
) -> dict[str, Any]:
    """All that is said of a data set but for its files; no times, no folders and no addresses of one machine."""
    settings = settings_of(config)
    return {
        **{name: value for name, value in facts.items() if name not in _LEFT_OUT},
        "schema": SCHEMA,
        "rows": {split: counts.of("splits").get(split, 0) for split in ("train", "validation", "test")},
        "kinds": counts.of("kinds"),
        "upstreams": counts.of("upstreams"),
        "annotators": counts.of("annotators"),
        "licences": counts.of("licences"),
        "sources": _sources(config, facts, counts),
        "funnel": [step._asdict() for step in steps],
        "filters": {stage: dict(store.drop_reasons(stage)) for stage in _STAGES},
        "principles": _principles(config, counts),
        "costs": _costs(config, ledger),
        "configuration": settings,
        "configuration_sha256": _hash(settings),
        "seed": config.seed,
        "versions": {**{name: version(name) for name in ("aligner-llm", "pyarrow")}, **facts.get("versions", {})},
    }


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file but the manifest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _hash_of(path)} for path in paths
    }


def settings_of(config: BuildConfig) -> dict[str, Any]:
    """What of a configuration decides about the rows, with files and models by their last names."""
    settings = {name: value for name, value in asdict(config).items() if name not in _HOW}
    for name in ("sources", "against"):
        settings[name] = [{**table, "path": _file(table["path"])} for table in settings[name]]
    for name in ("upstreams", "annotators"):
        settings[name] = [_model_settings(table) for table in settings[name]]
    settings["judge"] = _model(config.judge)
    settings["principles"] = [_file(name) for name in config.principles]
    settings["filters"]["tokenizer"] = _model(config.filters.tokenizer)
    return settings


def _sources(config: BuildConfig, facts: Mapping[str, Any], counts: Counts) -> dict[str, Any]:
    """By the names in the configuration and in the rows: what is known of each, and its rows that were written."""
    told, rows = facts.get("sources", {}), counts.of("sources")
    licences = licences_of(config.sources)
    return {name: _source(told.get(name, {}), licences.get(name), name, counts) for name in sorted({*licences, *rows})}


def _source(told: Mapping[str, Any], licence: str | None, name: str, counts: Counts) -> dict[str, Any]:
    path = {"path": _file(str(told["path"]))} if "path" in told else {}
    found = sorted({*counts.of(f"licences of {name}"), *([licence] if licence else [])})
    return {**told, **path, "licences": found, "written": counts.of("sources").get(name, 0)}


def _principles(config: BuildConfig, counts: Counts) -> dict[str, Any]:
    """Those that ship come under the licence of this package; whose a file is nobody knows here.

    None where no annotator was asked: corrections that came with a source follow whatever their writers went by.
    """
    if not counts.of("annotators").keys() & {one.name for one in config.annotators}:
        return {"hash": None, "of": []}
    loaded = principles.load(config.principles)
    known = ["unknown" if name.endswith(".toml") else "Apache-2.0" for name in config.principles]
    of = [{**told, "licence": licence} for told, licence in zip(loaded.as_json(), known, strict=True)]
    return {"hash": loaded.version_hash, "of": of}


def _costs(config: BuildConfig, ledger: Ledger) -> dict[str, Any]:
    """Prices, and what was spent on calls, by stage and model; of the judge there are only counts."""
    asked: list[tuple[Stage, Iterable[str]]] = [
        ("answers", (one.name for one in config.upstreams)),
        ("corrections", (one.name for one in config.annotators)),
    ]
    state = ledger.state("verdicts")
    return {
        "currency": config.currency,
        "prices": {one.name: _prices(one) for one in (*config.upstreams, *config.annotators)},
        "spent": {stage: {name: _spent(ledger, stage, name) for name in sorted(names)} for stage, names in asked},
        "judge": {"verdicts": state.done, "failed": dict(sorted(state.failed.items())), "cost": "not counted"},
        "total": round(ledger.spent(), 6),
    }


def _prices(one: BuildUpstream | BuildAnnotator) -> dict[str, Any]:
    """For a million tokens, as they were paid."""
    share = one.batch_price if one.calling == "batch" else 1.0
    return {"in": round(one.price_in * share, 6), "out": round(one.price_out * share, 6), "calling": one.calling}


def _spent(ledger: Ledger, stage: Stage, model: str) -> dict[str, Any]:
    state = ledger.state(stage, [model])
    return {
        "calls": state.done,
        "failed": dict(sorted(state.failed.items())),
        "prompt_tokens": state.prompt_tokens,
        "completion_tokens": state.completion_tokens,
        "cost": round(state.cost, 6),
    }


def _model_settings(table: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in table.items() if name not in _CALLING}
    return {**kept, "model": _model(table["model"])}


def _model(name: str) -> str:
    """A model without the address of its server, which may hold a password, and without the folder of its file."""
    kind, colon, where = _ADDRESS.sub("", name).partition(":")
    return f"{kind}{colon}{_last(where)}" if colon else _last(name)


def _file(path: str) -> str:
    """The last name of a file or folder, so that it says the same from any folder; what is no file stays whole."""
    is_name = path.startswith(("hub:", "world:"))
    return path if is_name else path.rstrip("/").rpartition("/")[2]


def _last(path: str) -> str:
    """The last name of an absolute path, or one that leads upwards; other names say the same everywhere."""
    return path.rstrip("/").rpartition("/")[2] if path.startswith(("/", ".", "~")) or path.count("/") > 1 else path


def _hash(value: object) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
