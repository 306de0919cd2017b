"""The stage of the questions: from rows of sources to questions that are kept, each with its cluster and its split."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import orjson

from aligner.building.against import OVERLAP, EvaluationSet, hits_by_set, labelled, sets_of, texts_to_look_at
from aligner.building.given import given_answer, given_correction
from aligner.building.held import begin
from aligner.building.nouns import Annotated, Answered, Asked, Dropped, Split, id_of
from aligner.building.sources import Found, Unusable, files_of, hash_of, name_of, named, rows
from aligner.building.store import Store
from aligner.config import BuildConfig, BuildSplits
from aligner.data.filters import first, question_filters
from aligner.data.near_duplicates import clusters
from aligner.data.overlapping import Index
from aligner.errors import AlignerError
from aligner.jobs import progress
from aligner.prompts import text_of
from aligner.records import Question
from aligner.sharding.locking import holding

T = TypeVar("T")
_DONE = "questions"
_WINDOW = 1000


class Why(NamedTuple):
    """Why a question is dropped."""

    reason: str
    detail: str


class Looked(NamedTuple):
    """A row, its question's id ("" where it has none), whether it is the question's first, and why not to keep it."""

    found: Found
    id: str
    first: bool
    why: Why | None

    @property
    def question(self) -> Question:
        """The row's question; empty where it has none."""
        return "" if isinstance(self.found.given, Unusable) else self.found.given.question


class Decided(NamedTuple):
    """What becomes of a row."""

    asked: Asked | None = None
    dropped: Dropped | None = None
    answered: Answered | None = None
    annotated: Annotated | None = None


class OverlapError(AlignerError):
    """Too much of the sources is in an evaluation set."""


def gather(config: BuildConfig, store: Store) -> None:
    """Read all sources into the store: kept questions, dropped rows, and the answers and corrections that they give.

    Begins anew when it was interrupted, and does nothing once it is done. Raises InputFileError for bad rows, and
    OverlapError where more of the questions than may overlap do.
    """
    named(config.sources)
    # Two processes that begin at the same time read the sources one behind the other: the second finds them read.
    with holding(store.path.with_name("questions.lock")):
        if not is_gathered(store):
            _begin_anew(store)
            sets = sets_of(config.against)
            counts = Counts()
            with progress("questions") as tick:
                for window in windows(_decided(config, sets, counts), _WINDOW):
                    _keep(store, window)
                    tick(len(window))
            with store.writing():
                begin(config, store, "questions")
                store.once(_DONE, orjson.dumps(_facts(config, sets, counts), option=orjson.OPT_SORT_KEYS).decode())
    check_overlap(config, store, "questions", rows_read(store))


def check_overlap(config: BuildConfig, store: Store, stage: Literal["questions", "verdicts"], total: int) -> None:
    """Raises OverlapError where a larger share of a stage's rows overlaps with the evaluation sets than may."""
    found = store.drop_reasons(stage).get(OVERLAP, 0)
    if not found or found <= config.filters.max_overlap * total:
        return
    rows = "rows of the sources" if stage == "questions" else "corrected answers"
    hits = hits_by_set(store.dropped(stage), [one["name"] for one in facts(store)["overlap"]])
    sets = ", ".join(f"{name} {count:,}" for name, count in hits.items() if count)
    share = ceil(1000 * found / total) / 1000
    raise OverlapError(
        f"{found:,} of {total:,} {rows} overlap with evaluation sets ({sets}): take them out of the sources; or, as"
        f" they are dropped in any case, let so many be dropped with --filters.max-overlap {share:g}"
    )


def rows_read(store: Store) -> int:
    """How many rows all sources gave, as they were counted when they were read; raises KeyError before."""
    return sum(source["rows"] for source in facts(store)["sources"].values())


def empty_lines(store: Store) -> list[str]:
    """What to say of sources that gave no row."""
    found = (name for name, source in facts(store)["sources"].items() if not source["rows"])
    return [f'the source "{name}" gave no row: is it the file that was meant, and the right format?' for name in found]


def facts(store: Store) -> Mapping[str, Any]:
    """What is known of sources and evaluation sets once the stage is done; raises KeyError before."""
    found = store.value(_DONE)
    if found is None:
        raise KeyError(_DONE)
    return orjson.loads(found)


def is_gathered(store: Store) -> bool:
    """Whether the stage is done."""
    return store.value(_DONE) is not None


def split_of(cluster: str, splits: BuildSplits, *, seed: int) -> Split:
    """The part that a whole cluster of questions belongs to, by its hash alone."""
    digest = hashlib.sha256(f"split {seed} {cluster}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < splits.validation:
        return "validation"
    return "test" if place < splits.validation + splits.test else "train"


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one perhaps shorter."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


class Counts:
    """What is counted while sources are read, by their names: rows, and the answers that came with kept questions."""

    def __init__(self) -> None:
        self.rows = Counter[str]()
        self.answers = Counter[str]()


class Examined:
    """Why each question is dropped, None where it is not; each is examined once, however often it comes."""

    def __init__(self, examine: Callable[[Question], Why | None]) -> None:
        self._examine = examine
        self._found: dict[str, Why | None] = {}
        self._shared: dict[str, tuple[str, ...]] = {}
        self._first: dict[str, str] = {}

    def also(self, id: str) -> tuple[str, ...]:  # noqa: A002  # the word of the field
        """The names of the sources that hold a question besides its first one, as far as they were looked at."""
        return self._shared.get(id, ())

    def looked_at(self, found: Iterable[Found]) -> Iterator[Looked]:
        """Rows with the ids of their questions."""
        met = set[str]()
        for row in found:
            if isinstance(row.given, Unusable):
                yield Looked(row, "", first=False, why=Why(*row.given))
                continue
            name = id_of("question", row.given.question)
            if name not in self._found:
                self._found[name] = self._examine(row.given.question)
            self._note(name, name_of(row.source))
            yield Looked(row, name, name not in met, self._found[name])
            met.add(name)

    def _note(self, id_: str, source: str) -> None:
        if source not in {self._first.setdefault(id_, source), *self.also(id_)}:
            self._shared[id_] = (*self.also(id_), source)


class Placed(NamedTuple):
    """The cluster of a question, and the id of the earlier one, which is kept, that it repeats."""

    cluster: str
    near: str | None


def placed(looked: Iterable[Looked], threshold: float) -> dict[str, Placed]:
    """The clusters of all questions that no filter drops, by id; none is dropped for one that goes itself."""
    texts = ((row.id, text_of(row.question)) for row in looked if row.first and row.why is None)
    if not threshold:
        deque(texts, maxlen=0)
        return {}
    return {name: Placed(cluster, near) for name, cluster, near in clusters(texts, threshold)}


def _decided(config: BuildConfig, sets: Sequence[EvaluationSet], counts: Counts) -> Iterator[Decided]:
    """What becomes of each row.

    The sources are read twice: so memory holds no texts, and all sources of a question are known when it comes.
    """
    examined = Examined(_examiner(config, sets))
    found = partial(_found, config)
    clusters_of = placed(examined.looked_at(found()), config.filters.near_duplicate)
    given = Counter[str]()
    for row in examined.looked_at(found()):
        cluster, near = clusters_of.get(row.id, Placed(row.id, near=None))
        if near:
            row = row._replace(why=Why("near_duplicate", f"of {near}"))  # noqa: PLW2901  # the same row
        decided = _decision(row, _asked(config, row, cluster, examined.also(row.id)) if row.first else None, given)
        counts.rows[name_of(row.found.source)] += 1
        counts.answers[name_of(row.found.source)] += decided.answered is not None
        yield decided


def _found(config: BuildConfig) -> Iterator[Found]:
    skip = config.on_bad_row == "skip"
    return (row for source in config.sources for row in rows(source, seed=config.seed, skip=skip))


def _decision(row: Looked, asked: Asked | None, given: Counter[str]) -> Decided:
    """A kept question or a dropped row; a row that repeats a question may still give an answer to it."""
    if row.why is not None:
        return Decided(asked, _dropped(row, row.id if row.first else _row_id(row.found), row.why))
    name = f"{name_of(row.found.source)} {row.id}"
    answered = given_answer(row.found, row.id, sample=given[name])
    if answered is not None:
        given[name] += 1
    again = None if row.first else _dropped(row, _row_id(row.found), Why("same_question", f"as {row.id}"))
    return Decided(asked, again, answered, given_correction(row.found, answered))


def _dropped(row: Looked, id_: str, why: Why) -> Dropped:
    return Dropped("questions", id_, *why, name_of(row.found.source), row.found.place)


def _asked(config: BuildConfig, row: Looked, cluster: str, also: tuple[str, ...]) -> Asked:
    source = row.found.source
    return Asked(
        id=row.id,
        question=row.question,
        source=name_of(source),
        also=also,
        place=row.found.place,
        licence=source.licence,
        cluster=cluster,
        split=split_of(cluster, config.splits, seed=config.seed),
    )


def _row_id(found: Found) -> str:
    # Without the folder, so that ids are the same on any machine.
    return id_of("row", name_of(found.source), Path(found.place).name)


def _examiner(config: BuildConfig, sets: Sequence[EvaluationSet]) -> Callable[[Question], Why | None]:
    """What looks for reasons to drop a question: the filters in their order, and the evaluation sets."""
    filters = question_filters(config.filters)
    index = Index(labelled(sets), config.filters.overlap_words) if sets else None

    def why(question: Question) -> Why | None:
        if found := first(filters, question):
            return Why(*found)
        hits = filter(None, (index.find(text) for text in texts_to_look_at(question))) if index else iter(())
        hit = next(hits, None)
        return Why(OVERLAP, f"{hit.name}: {hit.text}") if hit else None

    return why


def _begin_anew(store: Store) -> None:
    """Delete what an interrupted run left: sources and settings may be others since, and nobody was asked yet."""
    with store.writing() as db:
        for table in ("questions", "answers", "annotated"):
            db.execute(f"DELETE FROM {table}")  # noqa: S608  # names of ours
        db.execute("DELETE FROM dropped WHERE stage = 'questions'")


def _keep(store: Store, decided: Sequence[Decided]) -> None:
    store.add_questions(row.asked for row in decided if row.asked)
    store.drop(row.dropped for row in decided if row.dropped)
    store.add_answers(row.answered for row in decided if row.answered)
    store.add_annotated(row.annotated for row in decided if row.annotated)


def _facts(config: BuildConfig, sets: Sequence[EvaluationSet], counts: Counts) -> Mapping[str, Any]:
    sources = {
        name: {
            "format": source.format,
            "takes": source.takes,
            "licence": source.licence,
            "rows": counts.rows[name],
            "answers": counts.answers[name],
            "sha256": hash_of(files) if (files := files_of(source)) else None,
        }
        for name, source in named(config.sources).items()
    }
    overlap = [
        {"name": found.name, "sha256": found.sha256, "texts": len(found.texts), "words": config.filters.overlap_words}
        for found in sets
    ]
    return {"sources": sources, "overlap": overlap}
