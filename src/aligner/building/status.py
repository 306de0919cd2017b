"""How far a build is, as figures."""

from collections.abc import Mapping
from typing import Any

from aligner.building.books import Books
from aligner.building.nouns import Stage
from aligner.building.store import Store
from aligner.building.verdicts import JUDGE
from aligner.config import BuildConfig

_TABLES: Mapping[Stage, str] = {
    "questions": "questions",
    "answers": "answers",
    "corrections": "annotated",
    "verdicts": "checked",
}


def figures(config: BuildConfig, store: Store, books: Books) -> Mapping[str, Any]:
    """Rows kept and dropped by stage, calls by stage and model, and what was spent."""
    rows = {
        stage: {"kept": store.kept(table), "dropped": dict(store.drop_reasons(stage))}
        for stage, table in _TABLES.items()
    }
    asked = [
        *(_calls(books, "answers", model.name) for model in config.upstreams),
        *(_calls(books, "corrections", model.name) for model in config.annotators),
        *([_calls(books, "verdicts", JUDGE)] if config.judge else []),
    ]
    return {"rows": rows, "calls": asked, "spent": books.spent()}


def _calls(books: Books, stage: Stage, model: str) -> Mapping[str, Any]:
    state = books.state(stage, [model])
    return {
        "stage": stage,
        "model": model,
        "todo": state.todo,
        "leased": state.leased,
        "done": state.done,
        "failed": dict(state.failed),
        "cost": state.cost,
    }
