"""What a manifest tells besides its rows: sources, principles, prompts, agreement, overlaps."""

from collections.abc import Mapping
from typing import Any

from aligner.building import agreement, corrections, questions, reviewing, verdicts
from aligner.building.against import hits_by_set
from aligner.building.principles import load
from aligner.building.store import Store
from aligner.config import BuildConfig


def facts(config: BuildConfig, store: Store) -> Mapping[str, Any]:
    """All of it as JSON holds it; the same store gives the same facts."""
    gathered = questions.facts(store)
    names = [found["name"] for found in gathered["overlap"]]
    asked = hits_by_set(store.dropped("questions"), names)
    corrected = hits_by_set(store.dropped("verdicts"), names)
    overlap = [
        {
            **found,
            "hits": asked.get(found["name"], 0) + corrected.get(found["name"], 0),
            "questions": asked.get(found["name"], 0),
            "triples": corrected.get(found["name"], 0),
        }
        for found in gathered["overlap"]
    ]
    return {
        "sources": gathered["sources"],
        "overlap": overlap,
        "principles": load(config.principles).as_json(),
        "prompts": {name: {"template": template} for name, template in corrections.templates(config).items()},
        "agreement": agreement.agreement(agreement.pairs_of(store.annotated())),
        "review": reviewing.figures(store),
        "triples": verdicts.statistics(store),
    }
