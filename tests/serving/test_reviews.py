"""Laws of the review queue, on SQLite and on PostgreSQL alike."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from random import Random
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logged_rows import ROW, row

from aligner.serving.database import place_of
from aligner.serving.logged import Feedback, Logged, State, Verdict, settled, state_of
from aligner.serving.review import cursors, paging, reading
from aligner.serving.review.paging import Filters, Sort
from aligner.serving.review.showing import PREVIEW, preview
from aligner.serving.review.words import words_of
from aligner.serving.store import Store

WORDS = ("salt", "pepper", "Zimt", "日本", "o'clock", "café", "of", "of", "of")
VERDICTS: Sequence[Verdict] = ("accept", "reject", "edit", "both_bad")
ONE_DATABASE = [HealthCheck.function_scoped_fixture]
ANY_TEXT = st.text(st.characters(codec=None, categories=None) | st.sampled_from('\x00\x1a"*()-^:ANDORNEAR\ud800'))


def drawn_rows(count: int) -> list[Logged]:
    """Rows that differ in all that is filtered by; some have the same time, and some the same figures."""
    draw = Random(5)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(0, 4)))

    return [
        replace(
            row(number),
            created=ROW.created + number // 3,
            upstream=draw.choice(["a", "b", "\0"]),
            model=draw.choice(["small", "large", ""]),
            aligner=draw.choice(["one", "two"]),
            mode=draw.choice(["correct", "shadow"]),
            skipped=draw.choice([None, None, "json"]),
            bypass=draw.choice([None, None, "timeout", "json"]),
            changed=draw.random() < 0.5,
            edit_share=draw.choice([0.0, 0.004, 0.05, 0.055, 0.3, 0.99, 1.0]),
            confidence=draw.choice([None, 0.0, 0.25, 1.0]),
            question=text(),
            answer=text(),
            correction=text(),
            content=draw.choice(["full", "full", "full", "off"]),
        )
        for number in range(count)
    ]


def said_by(
    reviewer: str | None, ids: Sequence[str], verdict: Verdict, batch: str, user: str | None = None
) -> list[Feedback]:
    """The same said of some rows."""
    text = "better" if verdict == "edit" else None
    return [
        Feedback(id=one, verdict=verdict, text=text, user=user, reviewer=reviewer, batch=batch, created=1.0)
        for one in ids
    ]


ROWS = drawn_rows(160)
ACTIONS = [
    said_by(
        draw.choice(["ann", "bob", None]), draw.sample([one.id for one in ROWS], 30), draw.choice(VERDICTS), f"b{n}"
    )
    for n, draw in enumerate(map(Random, range(6)))
]


def filled(database: str) -> Store:
    """A store with the rows and what was said of them."""
    store = Store(place_of(database))
    order = Random(1).sample(ROWS, len(ROWS))
    for start in range(0, len(order), 37):
        store.write(order[start : start + 37])
    for said in ACTIONS:
        store.note(said)
    return store


def fits(one: Logged, state: State, filters: Filters) -> bool:
    """Whether a row is wanted, as the words of the filters say."""
    f = filters
    named = all(
        getattr(f, name) in (None, getattr(one, name)) for name in ("changed", "upstream", "model", "aligner", "mode")
    )
    held = set(words_of((one.question, one.answer, *((one.correction,) if one.changed else ()))))
    sought = words_of([f.search or ""])
    return (
        named
        and f.reason in (None, one.skipped, one.bypass, one.kept_reason)
        and (f.edit_min is None or one.edit_share >= f.edit_min)
        and (f.edit_max is None or one.edit_share <= f.edit_max)
        and (f.since is None or one.created >= f.since)
        and (f.until is None or one.created < f.until)
        and f.state in (None, state)
        and (f.search is None or (one.content == "full" and bool(sought) and set(sought) <= held))
    )


KEYS: dict[Sort, Callable[[Logged], float]] = {
    "newest": lambda one: -one.created,
    "oldest": lambda one: one.created,
    "edits": lambda one: -one.edit_share,
    "doubt": lambda one: 1.0 if one.confidence is None else one.confidence - 1.0,
}


def some(values: Sequence[object]) -> st.SearchStrategy[object]:
    """Mostly no filter, or one of these."""
    return st.none() | st.none() | st.sampled_from(values)


FILTERS = st.builds(
    Filters,
    changed=some([True, False]),
    upstream=some(["a", "\0", "nowhere"]),
    model=some(["small", ""]),
    aligner=some(["one"]),
    mode=some(["shadow"]),
    reason=some(["json", "timeout"]),
    edit_min=some([0.0, 0.05, 0.3, 1.0]),
    edit_max=some([0.0, 0.054, 0.3, 0.99]),
    since=some([ROW.created + 20]),
    until=some([ROW.created + 20]),
    state=some(["open", "once", "settled", "disputed"]),
    search=some(["of", "salt", "pepper of", "CAFÉ zimt", "o'clock", "日", "nothing", "…"]),
    sort=st.sampled_from(list(KEYS)),
)


@pytest.mark.slow
def test_every_page_of_every_mixture_of_filters_is_right(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page after page gives each row that fits once, and in its order, whichever way it is found."""
    with closing(filled(database)) as store:
        states: dict[str, State] = {one.id: state_of(one.feedback) for one in store.rows()}
        assert set(states.values()) == set(get_args(State))

        @settings(max_examples=100, suppress_health_check=ONE_DATABASE)
        @given(FILTERS, st.integers(1, 40), st.sampled_from([3, 20, 2000]))
        def law(filters: Filters, limit: int, walked: int) -> None:
            monkeypatch.setattr(paging, "_WALKED", walked)
            found, behind = list[reading.Reviewed](), None
            while True:
                page = store.ask(partial(reading.page, filters=filters, behind=behind, limit=limit))
                found += page.rows
                if page.next is None:
                    break
                assert len(page.rows) == limit
                behind = cursors.read(cursors.written(page.next, filters), filters)
            ids = [one.logged.id for one in found]
            assert len(set(ids)) == len(ids)
            assert set(ids) == {one.id for one in ROWS if fits(one, states[one.id], filters)}
            keys = [KEYS[filters.sort](one.logged) for one in found]
            assert keys == sorted(keys)
            assert all(one.state == states[one.logged.id] for one in found)

        law()


def test_no_search_is_an_error(database: str) -> None:
    """Whatever somebody types is looked for, and finds the text that it is."""
    with closing(Store(place_of(database))) as store:

        @settings(max_examples=60, suppress_health_check=ONE_DATABASE)
        @given(ANY_TEXT, st.integers(0, 2**40))
        def law(text: str, number: int) -> None:
            one = row(number, answer=text, changed=False)
            store.write([one])
            page = store.ask(partial(reading.page, filters=Filters(search=text), behind=None, limit=1))
            assert bool(page.rows) == bool(words_of([text]))
            store.forget(one.conversation)

        law()


@st.composite
def actions(draw: st.DrawFn) -> list[tuple[str | None, str | None, Sequence[int], Verdict] | int]:
    """What reviewers do: they say something of some rows, or take back an action of before."""
    reviewers = st.sampled_from(["ann", "bob", None])
    users = st.sampled_from(["x", None])
    say = st.tuples(reviewers, users, st.lists(st.integers(0, 4), max_size=4), st.sampled_from(VERDICTS))
    return draw(st.lists(say | st.integers(0, 9), max_size=12))


def test_states_are_those_of_what_was_said(database: str) -> None:
    """After anything that is said or taken back, on every row."""
    with closing(Store(place_of(database))) as store:
        rows = [row(number) for number in range(4)]

        @settings(max_examples=30 if "postgresql" in database else 60, suppress_health_check=ONE_DATABASE)
        @given(actions())
        def law(done: list[tuple[str | None, str | None, Sequence[int], Verdict] | int]) -> None:
            store.write(rows)
            model = dict[str, list[Feedback]]()
            for number, action in enumerate(done):
                if isinstance(action, int):
                    mine = model.pop(f"b{action}", [])
                    assert store.undo(f"b{action}", mine[0].reviewer if mine else None) == len(mine)
                    continue
                reviewer, user, of, verdict = action
                said = said_by(reviewer, [row(one).id for one in of], verdict, f"b{number}", user)
                there = store.note(said)
                assert there == {one.id for one in said if one.id != row(4).id}
                if kept := [one for one in said if one.id in there]:
                    model[f"b{number}"] = kept
            for one in store.rows():
                said = [this for those in model.values() for this in those if this.id == one.id]
                assert one.feedback == tuple(said)
                found = store.ask(partial(reading.reviewed, id=one.id))
                assert found is not None
                assert found.state == state_of(said)
            store.forget(ROW.conversation)

        law()


def test_two_reviewers_at_once_lose_nothing(database: str) -> None:
    """Both say something of the same rows, in bulk and one by one, and take some of it back; all of it counts."""
    rows = [row(number) for number in range(12)]
    ids, barrier, wrong = [one.id for one in rows], threading.Barrier(2), list[BaseException]()
    with closing(Store(place_of(database))) as store:
        store.write(rows)

    def review(name: str, verdict: Verdict) -> None:
        with closing(Store(place_of(database))) as store:
            barrier.wait()
            try:
                for turn in range(8):
                    order = Random(f"{name}{turn}").sample(ids, len(ids))
                    store.note(said_by(name, order, verdict, f"{name}{turn}"))
                    if turn % 2:
                        assert store.undo(f"{name}{turn}", name) == len(ids)
                    store.note(said_by(name, order[:1], "both_bad", f"{name}{turn} alone"))
                    assert store.undo(f"{name}{turn} alone", name) == 1
            except BaseException as error:  # noqa: BLE001  # it belongs to the test
                wrong.append(error)

    threads = [threading.Thread(target=review, args=given) for given in (("ann", "accept"), ("bob", "reject"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    with closing(Store(place_of(database))) as store:
        found = [store.ask(partial(reading.reviewed, id=one)) for one in ids]
    assert [(one.state, len(one.logged.feedback)) for one in found if one] == [("disputed", 8)] * len(ids)


def test_only_ones_own_is_undone_or_judged(database: str) -> None:
    """Another's action stays, and so does one without a name; a client judges the rows of its own key alone."""
    with closing(Store(place_of(database))) as store:
        store.write([row(0), row(1, key_hash="another")])
        assert store.note(said_by("ann", [row(0).id, row(1).id], "accept", "b"), owner=ROW.key_hash) == {row(0).id}
        store.note(said_by(None, [row(0).id], "reject", ""))
        assert [store.undo("b", "bob"), store.undo("b", None), store.undo("", None), store.undo("b", "ann")] == [
            0,
            0,
            0,
            1,
        ]
        left = store.get(row(0).id)
    assert left is not None
    assert [one.verdict for one in left.feedback] == ["reject"]


def test_rows_of_one_moment_are_all_in_the_queue(database: str) -> None:
    """However many there are, and however often they are written."""
    rows = [replace(row(number), created=ROW.created) for number in range(700)]
    with closing(Store(place_of(database))) as store:
        for start in (0, 300, 350):
            assert store.write(rows[start : start + 350]) == 0
        page = store.ask(partial(reading.page, filters=Filters(search="2"), behind=None, limit=1000))
    assert {one.logged.id for one in page.rows} == {one.id for one in rows}


def test_facets_are_the_values_that_there_are(database: str) -> None:
    """Each once, and no longer than a row has it."""
    with closing(filled(database)) as store:
        found = store.ask(reading.facets)
        assert found == {
            "upstreams": ["\0", "a", "b"],
            "models": ["large", "small"],
            "aligners": ["one", "two"],
            "modes": ["correct", "shadow"],
            "reasons": ["json", "timeout"],
        }
        store.forget(ROW.conversation)
        if "postgresql" not in database:
            assert not any(store.ask(reading.facets).values())


def test_votes_are_last_words(database: str) -> None:
    """Of each reviewer on each correction, and of those since a time; a key is one, whatever users it names."""
    with closing(Store(place_of(database))) as store:
        store.write([row(0)])
        for time, verdict in enumerate(("accept", "reject")):
            store.note([replace(one, created=time) for one in said_by("ann", [row(0).id], verdict, "b", "x")])
        store.note([replace(one, created=0.5) for one in said_by(None, [row(0).id], "edit", "b")])
        store.note([replace(one, created=0.5) for one in said_by("ann", [row(0).id], "edit", "b", "y")])
        store.note([replace(one, created=0.5) for one in said_by(None, [row(0).id], "accept", "b", "x")])
        assert store.ask(partial(reading.votes, since=None)) == {
            row(0).id: {("ann", None): "reject", (None, None): "edit", (None, "x"): "accept"}
        }
        assert store.ask(partial(reading.votes, since=1.0)) == {row(0).id: {("ann", None): "reject"}}


def test_a_list_holds_the_last_words_and_their_beginnings(database: str) -> None:
    """However much was said of a row, and however long; the row itself has all of it."""
    said = [
        replace(one, created=time, text="t" * 20_000, comment=f"{time}".ljust(20_000))
        for time in range(60)
        for one in said_by("ann", [row(0).id], "edit", f"b{time}")
    ]
    with closing(Store(place_of(database))) as store:
        store.write([row(0), row(1)])
        store.note(said[::-1])
        store.note(said_by("bob", [row(1).id], "accept", "b"))
        page = store.ask(partial(reading.page, filters=Filters(sort="oldest"), behind=None, limit=2))
        whole = store.ask(partial(reading.reviewed, id=row(0).id))
    assert whole is not None
    assert len(whole.logged.feedback) == 60
    assert list(page.rows[1].logged.feedback) == said_by("bob", [row(1).id], "accept", "b")
    shown = preview(page.rows[0])["feedback"]
    assert [each["comment"].strip() for each in shown] == [f"{time}" for time in range(10, 60)]
    assert {len(each[name]) for each in shown for name in ("text", "comment")} == {PREVIEW}


def feedback(reviewer: str, verdict: Verdict, created: float) -> Feedback:
    """A word of somebody."""
    return replace(said_by(reviewer, [ROW.id], verdict, "b")[0], created=created)


@pytest.mark.parametrize(
    ("said", "state", "counts"),
    [
        ([], "open", None),
        ([("a", "accept")], "once", ("a", "accept")),
        ([("a", "accept"), ("a", "reject")], "once", ("a", "reject")),
        ([("a", "accept"), ("b", "accept")], "settled", ("b", "accept")),
        ([("a", "accept"), ("b", "reject")], "disputed", None),
        ([("a", "accept"), ("b", "reject"), ("c", "accept")], "disputed", ("c", "accept")),
        ([("a", "edit"), ("b", "reject"), ("c", "edit"), ("b", "edit"), ("a", "accept")], "disputed", ("b", "edit")),
    ],
)
def test_the_verdict_of_most_counts(said: list[tuple[str, Verdict]], state: State, counts: object) -> None:
    """By the last word of each, and the newest of those who gave it; where two have as many, none does."""
    given = [feedback(reviewer, verdict, float(time)) for time, (reviewer, verdict) in enumerate(said)]
    found = settled(given)
    assert state_of(given) == state
    assert (found and (found.reviewer, found.verdict)) == counts


@given(ANY_TEXT, st.integers(0, 9), st.floats(allow_nan=False), st.integers(0, 2**62))
def test_a_cursor_that_was_tampered_with_is_none(cursor: str, place: int, value: float, number: int) -> None:
    """One comes back as it went out, with the same filters alone, and nothing else is one."""
    filters, where = Filters(search="x"), paging.Place(value, number)
    written = cursors.written(where, filters)
    assert cursors.read(written, filters) == where
    other = written[:place] + ("A" if written[place] != "A" else "B") + written[place + 1 :]
    for wrong, of in ((other, filters), (cursor, filters), (written, Filters()), (written + "A", filters)):
        with pytest.raises(ValueError, match="no cursor"):
            cursors.read(wrong, of)
