"""The funnel of a build: what came to each stage, what left it, and why the rest did not."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from aligner.building import questions as gathered
from aligner.building.answers import count_wanted
from aligner.building.nouns import Stage, Step
from aligner.building.store import Store
from aligner.config import BuildConfig
from aligner.errors import InputFileError

OPEN = "open"
"""what a stage has not come to yet: not asked, waiting for a reply, or to be asked again"""


def steps(config: BuildConfig, store: Store) -> list[Step]:
    """The steps in order: rows read, answers wanted, answers kept, corrections, and what is exported.

    The first begins with the rows that were counted while they were read; that of the answers with all that are wanted
    to the kept questions, and those that came with them; each other one with what the one before it left. Raises
    InputFileError where a step does not add up to the row, and KeyError before the questions are gathered.
    """
    given = sum(source["answers"] for source in gathered.facts(store)["sources"].values())
    came = gathered.rows_read(store)
    questions = Step("questions", came, store.kept("questions"), dict(_positive(store.drop_reasons("questions"))))
    answers = _rest_of(store, "answers", count_wanted(config, store) + given, store.kept("answers"))
    corrections = _rest_of(store, "corrections", answers.left, store.kept("annotated"))
    verdicts = _rest_of(store, "verdicts", corrections.left, store.counts("checked"))
    found = [questions, answers, corrections, verdicts]
    check(found)
    return found


def exported(found: list[Step], rows: int) -> list[Step]:
    """The steps, and one for the rows that were written."""
    came = found[-1].left
    whole = [*found, Step("export", came, rows, {})]
    check(whole)
    return whole


def check(found: list[Step]) -> None:
    """Raise InputFileError where a step does not add up, or begins with other rows than were left."""
    for step in found:
        if step.came != step.left + sum(step.dropped.values()) or min(step.dropped.values(), default=0) < 0:
            raise InputFileError(f"the store does not add up at the stage {step.name}: {_told(step)}")
    for before, after in pairwise(found[1:]):
        if before.left != after.came:
            raise InputFileError(f"the store does not add up: {before.name} left {before.left}, {_told(after)}")


def _rest_of(store: Store, stage: Stage, came: int, left: int) -> Step:
    """A step in which what is neither left nor dropped is open."""
    dropped = dict(_positive(store.drop_reasons(stage)))
    waiting = came - left - sum(dropped.values())
    return Step(stage, came, left, {**dropped, **({OPEN: waiting} if waiting else {})})


def _positive(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    return ((name, counts[name]) for name in sorted(counts) if counts[name])


def _told(step: Step) -> str:
    parts = ", ".join(f"{name} {count}" for name, count in step.dropped.items())
    return f"{step.name} had {step.came} rows, left {step.left} and dropped {parts or 'none'}"
