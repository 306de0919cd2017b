"""Laws of the desk that gives answers to people: who gets what, what is kept, and what the build reads of it."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reviewing_people import PEOPLE, config_of, fill, replies, understood

from aligner.building.ledger import Ledger
from aligner.building.nouns import Failure
from aligner.building.reviewing import figures, refused
from aligner.building.reviewing.desk import Desk, Shares
from aligner.building.reviewing.fields import restored, typed
from aligner.building.reviewing.listening import check
from aligner.building.reviewing.looks import joined
from aligner.building.reviewing.tasks import GoneError, Sent, Task
from aligner.building.reviewing.visiting import named
from aligner.building.store import Store
from aligner.building.workers import Worker
from aligner.config.building import BuildConfig, BuildReview
from aligner.errors import MisuseError
from aligner.serving.shadow.word_diff import pieces_of, shown

TEXT = st.text(st.characters() | st.sampled_from("\r\n\x00\ud800"))


class Clock:
    """A clock that stands still until it is told."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def opened(folder: Path, clock: Clock | None = None, **review: float) -> Desk:
    """A desk on the build of that folder."""
    return Desk(folder / "build.sqlite", config_of(folder, **review), *([clock] if clock else []))


def taken(desk: Desk, person: str) -> Task:
    """What somebody has to do, who has something to do."""
    task = desk.take(person)
    assert task is not None
    return task


def answer_of(task: Task, text: str | None = None, *reasons: str) -> Sent:
    """A step that keeps the text, or sends another."""
    base = task.base if text is None else text
    return Sent(
        key=task.key, step=task.step, choice="keep" if text is None else "edit", text=base, reasons=tuple(reasons)
    )


def correct(desk: Desk, person: str, *texts: str | None) -> str:
    """Both steps of what somebody has; the request's key."""
    key = taken(desk, person).key
    for text in texts or (None, None):
        desk.send(answer_of(taken(desk, person), text), person)
    return key


def test_a_correction_takes_two_steps_and_the_build_reads_it(tmp_path: Path) -> None:
    """The second step starts from what the first made; the reply says edit or keep of the answer itself."""
    first, second = fill(tmp_path, [("How?", "Bad and wrong."), ("What?", "Fine.\r\n\x00")])
    desk = opened(tmp_path)
    for _ in range(2):
        task = taken(desk, "ada")
        if task.answer.startswith("Fine"):
            correct(desk, "ada", None, None)
            continue
        assert (task.step, task.base) == (1, "Bad and wrong.")
        assert desk.send(answer_of(task, "Wrong.", "dangerous"), "ada") is False
        task = taken(desk, "ada")
        assert (task.step, task.base, task.answer) == (2, "Wrong.", "Bad and wrong.")
        assert desk.send(answer_of(task, "Right.", "wrong"), "ada") is True
    assert desk.take("ada") is None
    desk.close()
    found = [understood(tmp_path, key) for key in (first, second)]
    kept, edited = sorted(found, key=lambda each: each.choice, reverse=True)
    assert (kept.choice, kept.text, kept.reasons) == ("keep", "Fine.\r\n\x00", ())
    assert (edited.choice, edited.text, edited.reasons) == ("edit", "Right.", ("dangerous", "wrong"))


def test_harm_put_back_by_the_second_step_is_a_kept_answer(tmp_path: Path) -> None:
    """What is exported is decided by the last text alone: equal to the answer, it was kept."""
    (key,) = fill(tmp_path, [("How?", "An answer.")])
    desk = opened(tmp_path)
    correct(desk, "ada", "Another.", "An answer.")
    desk.close()
    assert understood(tmp_path, key)[:2] == ("keep", "An answer.")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), twice=st.sampled_from([0.0, 0.3, 1.0]))
def test_everybody_at_once_corrects_everything_as_often_as_drawn(
    tmp_path_factory: pytest.TempPathFactory, seed: int, twice: float
) -> None:
    """At no moment do more people have an answer than it needs, nobody has one twice, and all replies are there."""
    folder = tmp_path_factory.mktemp("build")
    keys = fill(folder, [(f"Question {i}?", f"Answer {i}.") for i in range(8)])
    desks = [opened(folder, twice=twice) for _ in range(2)]
    needs = {row.id: Shares(twice, 0, 0).people(row.id) for row in desks[0].store.answers()}
    has: dict[str, Task] = {}
    random, people, finished = Random(seed), ["ada", "grace", "edsger"], list[tuple[str, str]]()
    for _ in range(400):
        person = random.choice(people)
        desk = random.choice(desks)
        task = desk.take(person)
        if task is None:
            has.pop(person, None)
            continue
        has[person] = task
        holders = [each.key for each in has.values()]
        done = [key for key, _ in finished]
        for key in set(holders):
            about = desk.store.answer(_about(desk, key)).id
            assert holders.count(key) + done.count(key) <= needs[about]
        assert (task.key, person) not in finished
        if random.random() < 0.7 and desk.send(answer_of(task, f"{person} {task.step}"), person):
            finished.append((task.key, person))
            has.pop(person)
    for desk in desks:
        desk.close()
    assert len(finished) == len(set(finished)) == sum(needs.values())
    assert set(replies(folder, keys)) == set(keys)


def _about(desk: Desk, key: str) -> str:
    return desk.store.connection.execute("SELECT about FROM review_items WHERE key = ?", (key,)).fetchone()[0]


def test_what_is_not_sent_back_goes_to_somebody_else_and_what_comes_late_is_heard(tmp_path: Path) -> None:
    """Until the lease ends nobody else has it; afterwards somebody has; both corrections are kept, the first counts."""
    (key,) = fill(tmp_path, [("How?", "An answer.")])
    clock = Clock()
    desk = opened(tmp_path, clock, lease_minutes=30)
    late = taken(desk, "ada")
    desk.send(answer_of(late, "Hers."), "ada")
    late = taken(desk, "ada")
    clock.now += 29 * 60
    assert desk.take("grace") is None
    clock.now += 2 * 60
    assert taken(desk, "grace").step == 1
    assert desk.take("ada") is None
    correct(desk, "grace", "One.", "Two.")
    desk.send(answer_of(late, "Late."), "ada")
    assert figures(desk.store)["corrections"] == 2
    assert figures(desk.store)["agreement"]["pairs"] == 0
    desk.close()
    assert understood(tmp_path, key).text == "Two."


def test_who_is_at_work_keeps_the_answer_and_may_come_back_to_it(tmp_path: Path) -> None:
    """Time begins anew while somebody types; once others have it no more, but what was theirs can be opened again."""
    (key,) = fill(tmp_path, [("How?", "An answer.")])
    clock = Clock()
    desk = opened(tmp_path, clock, lease_minutes=30)
    taken(desk, "ada")
    for _ in range(4):
        clock.now += 20 * 60
        assert desk.hold(key, "ada")
        assert desk.take("grace") is None
    clock.now += 31 * 60
    assert taken(desk, "grace").key == key
    assert not desk.hold(key, "ada")
    assert not desk.hold("none", "ada")
    assert desk.open_again(key, "ada").key == key
    for stranger in ("edsger", ""):
        with pytest.raises(GoneError):
            desk.open_again(key, stranger)
    desk.close()


def test_a_step_that_is_sent_again_changes_nothing(tmp_path: Path) -> None:
    """Whoever presses twice, or sends what was never theirs, is told so."""
    fill(tmp_path, [("How?", "An answer.")])
    desk = opened(tmp_path)
    first = answer_of(taken(desk, "ada"), "Hers.")
    desk.send(first, "ada")
    second = answer_of(taken(desk, "ada"), "Better.")
    for sent, person in ((first, "ada"), (second, "grace"), (replace(second, key="none"), "ada")):
        with pytest.raises(GoneError):
            desk.send(sent, person)
    assert desk.send(second, "ada")
    with pytest.raises(GoneError):
        desk.send(second, "ada")
    desk.close()


def test_the_first_step_can_be_opened_again(tmp_path: Path) -> None:
    """Its text and its reasons are there, and the second step then starts from what it says now."""
    fill(tmp_path, [("How?", "An answer.")])
    desk = opened(tmp_path)
    desk.send(answer_of(taken(desk, "ada"), "Hers.", "biased"), "ada")
    desk.back(replace(answer_of(taken(desk, "ada"), "Half a second step", "tone"), comment="So far."), "ada")
    again = taken(desk, "ada")
    assert (again.step, again.base, again.text, again.reasons) == (1, "An answer.", "Hers.", ("biased",))
    desk.send(answer_of(again, "Hers.", "biased"), "ada")
    second = taken(desk, "ada")
    assert (second.text, second.reasons, second.comment) == ("Half a second step", ("tone",), "So far.")
    desk.back(answer_of(second, "More of it"), "ada")
    desk.send(answer_of(taken(desk, "ada"), "Hers, again."), "ada")
    assert (taken(desk, "ada").base, taken(desk, "ada").text) == ("Hers, again.", "Hers, again.")
    for sent, person in ((answer_of(again), "ada"), (answer_of(second), "grace")):
        with pytest.raises(GoneError):
            desk.back(sent, person)
    desk.close()


def test_what_two_people_pass_on_is_given_up_until_it_is_wanted_again(tmp_path: Path) -> None:
    """One who passes gets another answer; two make it a failure; reopened, it is given out again."""
    keys = fill(tmp_path, [("How?", "An answer."), ("What?", "Another.")])
    desk = opened(tmp_path)
    assert taken(desk, "ada").key == keys[0]
    desk.pass_on(keys[0], "ada", "No.")
    assert taken(desk, "ada").key == keys[1]
    assert taken(desk, "grace").key == keys[0]
    desk.pass_on(keys[0], "grace", "")
    with Worker(tmp_path) as worker:
        ledger = Ledger(desk.store, worker)
        assert ledger.failure(keys[0]) == Failure("unusable", "2 people passed it on")
        assert ledger.failure(keys[1]) is None
        assert figures(desk.store)["given_up"] == 1
        desk.close()
        with Store(tmp_path / "build.sqlite") as store:
            Ledger(store, worker).reopen(["unusable"])
    desk = opened(tmp_path)
    assert taken(desk, "edsger").key == keys[0]
    desk.close()


def test_a_correction_counts_although_two_people_passed_the_answer_on(tmp_path: Path) -> None:
    """While somebody is at work nothing is given up; what comes late takes the place of having given up."""
    (key,) = fill(tmp_path, [("How?", "An answer.")])
    clock = Clock()
    desk = opened(tmp_path, clock, lease_minutes=30)
    for person in ("ada", "grace", "edsger"):
        taken(desk, person)
        clock.now += 31 * 60
    taken(desk, "edsger")
    for person in ("ada", "grace"):
        desk.pass_on(key, person, "")
    assert figures(desk.store)["given_up"] == 0
    clock.now += 31 * 60
    assert taken(desk, "alan").key == key
    desk.pass_on(key, "alan", "")
    assert figures(desk.store)["given_up"] == 1
    correct_late = [answer_of(desk.open_again(key, "edsger"), "Better.")]
    desk.send(correct_late[0], "edsger")
    desk.send(answer_of(desk.open_again(key, "edsger")), "edsger")
    assert (figures(desk.store)["given_up"], figures(desk.store)["done"]) == (0, 1)
    desk.close()
    assert understood(tmp_path, key).text == "Better."


def test_one_person_alone_can_take_back_what_they_passed_on_or_give_it_up(tmp_path: Path) -> None:
    """Only what nobody took; passed on again it is given up, so that no build waits for ever."""
    first, second = fill(tmp_path, [("How?", "An answer."), ("What?", "Another.")])
    desk = opened(tmp_path)
    assert not desk.take_back("ada")
    for key in (first, second):
        assert taken(desk, "ada").key == key
        desk.pass_on(key, "ada", "")
    assert desk.take("ada") is None
    assert desk.may_take_back("ada")
    assert desk.take_back("ada")
    assert taken(desk, "ada").key == first
    assert taken(desk, "grace").key == second
    desk.pass_on(first, "ada", "Still no.")
    assert desk.take("ada") is None
    assert not desk.take_back("ada")
    assert figures(desk.store)["given_up"] == 1
    with Worker(tmp_path) as worker:
        assert Ledger(desk.store, worker).failure(first) == Failure("unusable", "it was passed on twice")
    desk.close()


def test_who_has_seen_the_correction_of_somebody_else_makes_none_and_the_other_way_round(tmp_path: Path) -> None:
    """Neither the second person nor the inspector of an answer knows the other's text."""
    (key,) = fill(tmp_path, [("How?", "An answer.")])
    desk = opened(tmp_path, twice=1.0, inspected=1.0)
    taken(desk, "grace")
    correct(desk, "ada", "Hers.", None)
    assert desk.sample("grace") is None
    sample = desk.sample("edsger")
    assert sample is not None
    assert desk.take("edsger") is None
    desk.look(sample.number, "edsger", agrees=True, comment="")
    assert desk.take("edsger") is None
    assert correct(desk, "grace", "Other.", None) == key
    assert desk.sample("ada") is None
    assert desk.sample("grace") is None
    assert desk.sample("edsger") is not None
    desk.close()


def test_a_look_that_comes_too_late_is_not_said_to_be_noted(tmp_path: Path) -> None:
    """Where somebody else has looked by then, the first one stays."""
    fill(tmp_path, [("How?", "An answer.")])
    clock = Clock()
    desk = opened(tmp_path, clock, inspected=1.0, lease_minutes=30)
    correct(desk, "ada", "Hers.", None)
    late = desk.sample("grace")
    clock.now += 31 * 60
    assert desk.sample("edsger") == late
    assert late is not None
    desk.look(late.number, "edsger", agrees=True, comment="Good.")
    with pytest.raises(GoneError):
        desk.look(late.number, "grace", agrees=False, comment="")
    assert figures(desk.store)["quality"]["agreed"] == 1
    assert [(each.person, each.whose, each.agrees, each.comment) for each in desk.remarks()] == [
        ("edsger", "ada", True, "Good.")
    ]
    desk.close()


def test_nobody_corrects_an_answer_under_two_names_of_annotators(tmp_path: Path) -> None:
    """An old page of the second request for the same answer is told so, and takes nothing down."""
    fill(tmp_path, [("How?", "An answer.")])
    desk = opened(tmp_path)
    old = answer_of(taken(desk, "ada"))
    desk.send(old, "ada")
    for second_request in (
        "INSERT INTO review_items (key, about, place, needed) SELECT 'other', about, place, needed FROM review_items",
        "INSERT INTO review_first_steps SELECT 'other', person, text, '[]', '', 1 FROM review_first_steps",
        "INSERT INTO review_leases SELECT kind, 'other', person, until FROM review_leases",
    ):
        desk.store.connection.execute(second_request)
    desk.send(replace(old, step=2), "ada")
    with pytest.raises(GoneError):
        desk.send(replace(old, step=2, key="other"), "ada")
    assert figures(desk.store)["corrections"] == 1
    desk.close()


def test_an_edit_of_white_space_alone_is_a_kept_answer(tmp_path: Path) -> None:
    """As for any other annotator; the answer itself is what is noted."""
    (key,) = fill(tmp_path, [("How?", "An answer.\nIt is long.")])
    desk = opened(tmp_path)
    correct(desk, "ada", "An answer. \nIt is long.\n", None)
    assert figures(desk.store)["kept"] == 1
    desk.close()
    assert understood(tmp_path, key)[:2] == ("keep", "An answer.\nIt is long.")


def test_agreement_is_of_the_first_two_where_two_were_drawn(tmp_path: Path) -> None:
    """What came late besides makes no pair."""
    fill(tmp_path, [("How?", "An answer.")])
    clock = Clock()
    desk = opened(tmp_path, clock, twice=1.0, lease_minutes=30)
    late = answer_of(taken(desk, "alan"), "Late.")
    clock.now += 31 * 60
    for person in ("ada", "grace"):
        correct(desk, person, None, None)
    desk.send(late, "alan")
    desk.send(answer_of(desk.open_again(late.key, "alan")), "alan")
    found = figures(desk.store)
    assert (found["corrections"], found["agreement"]["pairs"], found["agreement"]["same_choice"]) == (3, 1, 1.0)
    desk.close()


def test_what_was_finished_when_the_process_died_is_handed_in_by_the_next(tmp_path: Path) -> None:
    """Between the end of the second step and the build's own tables a kill loses nothing."""
    (key,) = fill(tmp_path, [("How?", "An answer.")])
    desk = opened(tmp_path)
    correct(desk, "ada", "Hers.", None)
    for undone in (
        "DELETE FROM replies",
        "UPDATE requests SET state = 'todo'",
        "UPDATE review_items SET sent = 0",
    ):
        desk.store.connection.execute(undone)
    desk.close()
    assert not replies(tmp_path, [key])
    opened(tmp_path).close()
    assert understood(tmp_path, key).text == "Hers."


def test_inspectors_see_samples_of_others_once_and_their_votes_are_rates_with_counts(tmp_path: Path) -> None:
    """Nobody inspects what they wrote, two inspectors never have the same, and what is refused is known by its key."""
    keys = fill(tmp_path, [(f"Question {i}?", f"Answer {i}.") for i in range(6)])
    desk = opened(tmp_path, inspected=1.0)
    for person in ("ada", "ada", "ada", "grace", "grace", "grace"):
        correct(desk, person, "Hers.", None)
    ours, theirs = desk.sample("grace"), desk.sample("edsger")
    assert ours is not None
    assert theirs is not None
    assert ours.number != theirs.number
    with pytest.raises(GoneError):
        desk.look(ours.number, "edsger", agrees=True, comment="")
    desk.look(ours.number, "grace", agrees=False, comment="No.")
    with pytest.raises(GoneError):
        desk.look(ours.number, "grace", agrees=True, comment="")
    looked = 1
    while (sample := desk.sample("edsger")) is not None:
        assert sample.number != ours.number
        desk.look(sample.number, "edsger", agrees=True, comment="")
        looked += 1
    assert looked == 6
    assert figures(desk.store)["quality"] == {"inspected": 6, "agreed": 5, "rate": 5 / 6}
    assert {each.name: (each.inspected, each.agreed) for each in desk.progress()[1]} == {"ada": (3, 2), "grace": (3, 3)}
    (bad,) = refused(desk.store)
    assert bad in keys
    assert desk.sample("ada") is None
    desk.close()


def test_agreement_of_two_people_is_in_the_figures_without_their_names(tmp_path: Path) -> None:
    """Pairs, same choice, kappa and distance of every answer that two people corrected; the build's order does not."""
    fill(tmp_path, [(f"Question {i}?", "One two three.") for i in range(4)])
    desk = opened(tmp_path, twice=1.0)
    for person, texts in (("ada", ("Ä", "Ä", None, None)), ("grace", ("Ö", None, None, "Ö"))):
        for text in texts:
            correct(desk, person, text, None)
    found = figures(desk.store)
    assert (found["done"], found["waiting"], found["corrections"], found["people"]) == (4, 0, 8, 2)
    assert (found["agreement"]["pairs"], found["agreement"]["same_choice"], found["agreement"]["kappa"]) == (4, 0.5, 0)
    assert "ada" not in str(found)
    desk.close()


def test_figures_of_a_build_that_nobody_reviewed_are_zero_and_add_no_table(tmp_path: Path) -> None:
    """A manifest may always ask."""
    fill(tmp_path, [])
    with Store(tmp_path / "build.sqlite") as store:
        found = figures(store)
        assert (found["done"], found["waiting"], found["agreement"]["pairs"], found["quality"]["rate"]) == (
            0,
            0,
            0,
            None,
        )
        assert not list(refused(store))
        tables = [name for (name,) in store.connection.execute("SELECT name FROM sqlite_master")]
    assert not [name for name in tables if name.startswith("review")]


@given(TEXT)
def test_a_text_that_nobody_touched_comes_back_byte_for_byte(text: str) -> None:
    """Whatever a text field makes of its line ends, NULs and half letters."""
    assert typed(typed(text)) == typed(text)
    assert restored(typed(text), text) == text
    assert restored(typed(text).replace("\n", "\r\n"), text) == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r")), TEXT)
def test_an_edited_text_has_the_line_ends_of_the_one_before(sent: str, base: str) -> None:
    """Of one kind: those of the text before where it has one kind, and else LF; all else is as it was sent."""
    found = restored(sent.replace("\n", "\r\n"), base)
    assert found == base or found.replace("\r\n", "\n") == sent
    assert "\r" not in found.replace("\r\n", "") or found == base


@given(*[st.lists(st.sampled_from(["one", "two", "\n", ".", "\u202e"])).map(" ".join)] * 2)
def test_changes_that_are_joined_are_still_the_two_texts(before: str, after: str) -> None:
    """What is kept and gone is the one, what is kept and new the other; of touching changes there is one each."""
    pieces = joined(pieces_of(before, after))
    assert "".join(piece.text for piece in pieces if piece.kind != "new") == shown(before)
    assert "".join(piece.text for piece in pieces if piece.kind != "gone") == shown(after)
    kinds = [piece.kind for piece in pieces]
    assert all(kinds[at : at + 2] != [kind] * 2 for at in range(len(kinds)) for kind in ("gone", "new"))


@given(st.text())
def test_a_name_is_one_short_line_of_signs_that_can_be_seen(text: str) -> None:
    """And giving it again changes nothing."""
    name = named(text)
    assert name.isprintable()
    assert len(name) <= 60
    assert named(name) == name == name.strip()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (BuildConfig(), "nobody is to correct by hand"),
        (BuildConfig(annotators=(PEOPLE,), review=BuildReview(host="0.0.0.0")), "not loopback"),  # noqa: S104
        (BuildConfig(annotators=(PEOPLE,), review=BuildReview(host="::")), "not loopback"),
        (BuildConfig(annotators=(PEOPLE,), review=BuildReview(host="example.com")), "not loopback"),
        (BuildConfig(annotators=(PEOPLE,), review=BuildReview(keys=Path("none"))), "keys cannot be read"),
        (BuildConfig(annotators=(PEOPLE,), review=BuildReview(twice=1.5)), "shares"),
        (BuildConfig(annotators=(PEOPLE,), review=BuildReview(lease_minutes=0)), "more than 0"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(config: BuildConfig, says: str) -> None:
    """Nobody to correct, nobody to be kept out, and shares that are none."""
    with pytest.raises(MisuseError, match=says) as caught:
        check(config)
    assert "\n" not in str(caught.value)
