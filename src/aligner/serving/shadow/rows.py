"""What a shadow report reads of the log: figures of every row, and the texts of a few."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import groupby

from sqlalchemy import ColumnElement, select, tuple_

from aligner.serving.logged import Feedback, Logged
from aligner.serving.shadow.figures import Report, Sample, Seen, Tally
from aligner.serving.shadow.word_diff import pieces_of, shown
from aligner.serving.store import Store
from aligner.serving.tables import corrections, feedback, feedback_from

_PAGE = 4000
_LONGEST_QUESTION = 600


class ShadowRows(Store):
    """A store to make a report of; raises as a store does."""

    def report(self, mode: str, since: float | None) -> Generator[int, None, Report]:
        """The report on all rows of a mode; tells after each page how many rows it has read."""
        tally = Tally(mode)
        for page in self._pages(mode, since):
            for row in page:
                tally.add(row)
            yield len(page)
        for words in self._words(mode, since):
            tally.add_words(words)
        figures = tally.figures()
        return Report(figures, self._samples(figures.largest), self._samples(figures.doubtful))

    def _pages(self, mode: str, since: float | None) -> Iterator[Sequence[Seen]]:
        place = (corrections.c.created, corrections.c.id)
        columns = [corrections.c[name] for name in Seen._fields]
        query = select(*columns).where(*_wanted(mode, since)).order_by(*place).limit(_PAGE)
        following = query
        while True:
            with self._transaction() as connection:
                page = [Seen._make(row) for row in connection.execute(following)]
            yield page
            if len(page) < _PAGE:
                return
            following = query.where(tuple_(*place) > tuple_(page[-1].created, page[-1].id))

    def _words(self, mode: str, since: float | None) -> Iterator[Iterable[Feedback]]:
        """What was said of each change."""
        query = (
            select(feedback)
            .join(corrections, corrections.c.id == feedback.c.id)
            .where(*_wanted(mode, since), corrections.c.changed)
            .order_by(feedback.c.id, feedback.c.created, feedback.c.number)
        )
        with self._transaction() as connection:
            found = connection.execution_options(yield_per=_PAGE).execute(query).mappings()
            for _, words in groupby((feedback_from(dict(row)) for row in found), key=lambda said: said.id):
                yield words

    def _samples(self, names: Iterable[str]) -> list[Sample]:
        """The texts of changes to look at; rows that were deleted meanwhile are passed over."""
        return [sample_of(logged) for name in names if (logged := self.get(name)) is not None]


def sample_of(logged: Logged) -> Sample:
    """A change to look at, in texts that can be shown."""
    question = shown(logged.question)
    return Sample(
        id=logged.id,
        created=logged.created,
        upstream=shown(logged.upstream),
        model=shown(logged.model),
        edit_share=logged.edit_share,
        confidence=logged.confidence,
        question=question[:_LONGEST_QUESTION] + ("…" if len(question) > _LONGEST_QUESTION else ""),
        pieces=pieces_of(logged.answer, logged.correction),
    )


def _wanted(mode: str, since: float | None) -> list[ColumnElement[bool]]:
    of_mode = [] if mode == "any" else [corrections.c.mode == mode]
    return [*of_mode, *([] if since is None else [corrections.c.created >= since])]
