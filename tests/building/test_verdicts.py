"""Laws of the verdicts of a build: what becomes a triple, and why the rest does not."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from built import Opened, upstreams, world_config, written

from aligner.building import answers, judged, output, questions, verdicts
from aligner.building.facts import facts
from aligner.building.manifest import Counts
from aligner.building.nouns import Annotated, Checked
from aligner.building.questions import OverlapError
from aligner.config import BuildAgainst, BuildConfig, BuildFilters, BuildSource
from aligner.correcting.writers import shipped
from aligner.errors import MisuseError, ModelError
from aligner.models.server import RefusedError
from aligner.records import Message, Question

PLAIN = BuildFilters(near_duplicate=0.0)
ROW = {"question": "Who wrote the book about the sea?", "answer": "It was Ada.", "correction": "It was Bob."}


def config_of(folder: Path, *rows: Mapping[str, Any], **given: Any) -> BuildConfig:
    """A build of triples that are given."""
    source = BuildSource(path=str(written(folder / "given.jsonl", rows)), takes="triples", licence="MIT")
    settings: dict[str, Any] = {"sources": (source,), "upstreams": (), "annotators": (), "filters": PLAIN, **given}
    return world_config(folder, **settings)


def checked(config: BuildConfig) -> list[Checked]:
    """What passes."""
    with Opened(config.out) as opened:
        questions.gather(config, opened.store)
        verdicts.collect(config, opened.store, opened.ledger, None)
        return list(opened.store.checked())


def dropped(config: BuildConfig) -> dict[str, int]:
    """Why the rest does not."""
    with Opened(config.out) as opened:
        return dict(opened.store.drop_reasons("verdicts"))


def test_triples_keep_their_words_and_say_where_they_come_from(tmp_path: Path) -> None:
    """Unchanged ones are identity rows."""
    same = {**ROW, "question": "Who is Bob?", "correction": "It was Ada."}
    edit, identity = sorted(checked(config_of(tmp_path, ROW, same)), key=lambda row: row.kind)
    assert (edit.question, edit.answer, edit.correction) == tuple(ROW.values())
    assert (edit.kind, identity.kind) == ("edit", "identity")
    wanted = {"source": "given", "licence": "MIT", "upstream": "given", "annotator": "given"}
    assert wanted.items() <= edit.facts.items()


def test_equal_triples_are_kept_once(tmp_path: Path) -> None:
    """Two corrections of one answer are two triples."""
    other = {**ROW, "correction": "It was Eve."}
    config = config_of(tmp_path, ROW, ROW, other)
    assert sorted(row.correction for row in checked(config)) == ["It was Bob.", "It was Eve."]
    assert dropped(config) == {"duplicate": 1}


def test_personal_data_have_the_same_stand_ins_in_all_texts(tmp_path: Path) -> None:
    """Of a conversation, too; or none where they are kept."""
    said = "Write to ada@lovelace.org, please."
    turns = [Message("user", "Hello"), Message("assistant", said), Message("user", "To bob@builder.org?")]
    asked = [{"role": turn.role, "content": turn.content} for turn in turns]
    row = {"messages": asked, "answer": f"No. {said}", "correction": f"Yes, or: {said}"}
    (found,) = checked(config_of(tmp_path, row))
    assert "@" not in f"{found.question} {found.answer} {found.correction}"
    assert found.answer.endswith("Write to [EMAIL-1], please.")
    assert found.correction.endswith("Write to [EMAIL-1], please.")
    assert [turn.role for turn in found.question if isinstance(turn, Message)] == ["user", "assistant", "user"]
    (kept,) = checked(config_of(tmp_path, row, out=tmp_path / "kept", filters=replace(PLAIN, pii="keep")))
    assert kept.question == tuple(turns)


def test_corrections_that_overlap_with_an_evaluation_set_are_dropped(tmp_path: Path) -> None:
    """And answers too, as questions are: they fail the build until that is allowed, whatever the set is called."""
    text = "The old clock in the tower of the town hall of Lyon is wound up on Mondays by the verger."
    items = written(tmp_path / "items.jsonl", [{"question": text}])
    rows = [
        {**ROW, "answer": f"I think: {text[:40]}", "correction": f"I think: {text}"},
        {**ROW, "answer": f"I think: {text}", "correction": "I do not know."},
    ]
    against = (BuildAgainst(path=str(items), name="set: a"),)
    config = config_of(tmp_path, ROW, *rows, against=against)
    with pytest.raises(OverlapError, match=r"2 of 3 corrected answers .*\(set: a 2\)"):
        checked(config)
    allowed = replace(config, filters=replace(PLAIN, max_overlap=0.7))
    assert [found.correction for found in checked(allowed)] == ["It was Bob."]
    assert dropped(config) == {"overlap": 2}
    with Opened(config.out) as opened:
        assert facts(allowed, opened.store)["overlap"][0]["hits"] == 2
        with pytest.raises(OverlapError):
            output.write(config, opened.store, opened.ledger, {})


def judged_by(config: BuildConfig, preference: float | ModelError) -> tuple[int, list[Checked]]:
    """How often a judge was asked that prefers the correction so much, and what passes."""
    asked: list[Question] = []

    async def compare(question: Question, answer: str, correction: str) -> tuple[float, str]:
        asked.append(question)
        assert (answer, correction) == ("It was Ada.", "It was Bob.")
        if isinstance(preference, ModelError):
            raise preference
        return preference, "said"

    with Opened(config.out) as opened:
        questions.gather(config, opened.store)
        for _ in range(2):
            opened.ledger.add(verdicts.requests(config, opened.store, None))
            asyncio.run(judged.run(opened.ledger, compare))
            verdicts.collect(config, opened.store, opened.ledger, None)
        return len(asked), list(opened.store.checked())


@pytest.mark.parametrize(("preference", "kept"), [(1.0, 1), (0.5, 1), (0.2, 0)])
def test_the_judge_drops_what_is_worse_and_is_asked_once(tmp_path: Path, preference: float, kept: int) -> None:
    """A tie is no reason to drop; unchanged answers are not shown to him."""
    same = {**ROW, "question": "Who is Bob?", "correction": "It was Ada."}
    asked, found = judged_by(config_of(tmp_path, ROW, same, judge="world:"), preference)
    assert asked == 1
    assert sum(row.kind == "edit" for row in found) == kept
    assert sum(row.kind == "identity" for row in found) == 1
    assert dropped(config_of(tmp_path, ROW, same)) == ({} if kept else {"worse": 1})


def test_what_the_judge_could_not_say_stays_open(tmp_path: Path) -> None:
    """The same command asks again."""
    config = config_of(tmp_path, ROW, judge="world:")
    _, found = judged_by(config, ModelError("busy"))
    assert found == []
    assert dropped(config) == {}


def test_the_judge_sees_his_share(tmp_path: Path) -> None:
    """Drawn by the seed."""
    rows = [{**ROW, "question": f"Who wrote book {i}?"} for i in range(60)]
    asked, found = judged_by(config_of(tmp_path, *rows, judge="world:", judged=0.5), 1.0)
    assert 15 < asked < 45
    assert len(found) == 60


def test_tokens_are_counted_by_the_tokenizer_and_its_template(tmp_path: Path) -> None:
    """Prompt and correction together, as the Aligner reads and writes them."""
    count = verdicts.token_counter(str(shipped("aligner")), "sealed")
    assert count is not None
    short, long = count("Who?", "Ada.", "Bob."), count("Who?", "Ada.", "Bob. " * 40)
    assert 10 < short < 40
    assert long > short + 60
    filters = replace(PLAIN, tokenizer=str(shipped("aligner")), max_length=short)
    with Opened(tmp_path / "out") as opened:
        config = config_of(tmp_path, {"question": "Who?", "answer": "Ada.", "correction": "Bob."}, ROW, filters=filters)
        questions.gather(config, opened.store)
        verdicts.collect(config, opened.store, opened.ledger, count)
        assert [row.question for row in opened.store.checked()] == ["Who?"]
        assert opened.store.drop_reasons("verdicts") == {"too_long": 1}


def test_a_tokenizer_that_cannot_be_loaded_is_said_in_one_line(tmp_path: Path) -> None:
    """With its name; without any, characters are counted."""
    assert verdicts.token_counter("", "sealed") is None
    with pytest.raises(MisuseError, match=r"filters\.tokenizer"):
        verdicts.token_counter(str(tmp_path / "nothing"), "sealed")


def test_a_second_verdict_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """Whatever was decided before: filters may change, and equal rows may come that have a lesser id."""
    row = {**ROW, "correction": f"It was Bob. {'Really. ' * 5}"}
    config = config_of(tmp_path, row)
    (first,) = checked(config)
    none = replace(config, filters=replace(PLAIN, max_length=1))
    assert checked(none) == []
    assert dropped(config) == {"too_long": 1}
    assert checked(config) == [first]
    assert dropped(config) == {}
    with Opened(config.out) as opened:
        (given,) = opened.store.annotated()
        again = Annotated(id="0", answer=given.answer, annotator="other", key="k", choice="edit", text=given.text)
        opened.store.add_annotated([again])
        verdicts.collect(config, opened.store, opened.ledger, None)
        assert [found.id for found in opened.store.checked()] == ["0"]
        assert opened.store.kept("annotated") == 1 + sum(opened.store.drop_reasons("verdicts").values())


def test_what_waited_for_another_judge_is_not_asked(tmp_path: Path) -> None:
    """Nor counted as waiting: another judge has his own requests, and without a judge nothing waits."""
    config = config_of(tmp_path, ROW, judge="world:")
    with Opened(config.out) as opened:
        questions.gather(config, opened.store)
        opened.ledger.add(verdicts.requests(config, opened.store, None))
        other = replace(config, quality="honest")
        opened.ledger.add(verdicts.requests(other, opened.store, None))
        assert opened.ledger.state("verdicts").todo == 1
        verdicts.collect(other, opened.store, opened.ledger, None)
        (line,) = verdicts.waiting_lines(opened.store)
        assert line.startswith("1 corrections have no verdict yet")
        verdicts.collect(replace(config, judge=""), opened.store, opened.ledger, None)
        assert verdicts.waiting_lines(opened.store) == []


def test_a_judge_that_fails_everywhere_is_told(tmp_path: Path) -> None:
    """In his own words, and nothing counts as compared."""
    config = config_of(tmp_path, ROW, judge="world:")
    judged_by(config, ModelError("no such model"))
    with Opened(config.out) as opened:
        (line,) = verdicts.waiting_lines(opened.store)
        assert "no such model" in line
        assert verdicts.statistics(opened.store)["compared"] == 0


@pytest.mark.parametrize("error", [ModelError("busy"), RefusedError("no such model", 404)])
def test_a_judge_that_gives_no_verdict_stops_the_build(tmp_path: Path, error: ModelError) -> None:
    """No correction is dropped for it; one that refuses single calls does drop theirs."""
    rows = [{**ROW, "question": f"Who wrote book {i}?"} for i in range(12)]
    config = config_of(tmp_path, *rows, judge="world:")
    with pytest.raises(ModelError, match=f"first 8 calls: {error}"):
        judged_by(config, error)
    with Opened(config.out) as opened:
        state = opened.ledger.state("verdicts")
        assert (state.todo, state.leased, state.done, dict(state.failed)) == (12, 0, 0, {})


def test_a_given_answer_keeps_its_own_source(tmp_path: Path) -> None:
    """Where another source has the question first: place and licence go with the row, and that is asked, too."""
    asked = BuildSource(
        path=str(written(tmp_path / "asked.jsonl", [{"question": ROW["question"]}])), licence="CC-BY-4.0"
    )
    given = config_of(tmp_path, ROW).sources[0]
    for number, sources in enumerate(((asked, given), (given, asked))):
        given_too = config_of(tmp_path, ROW)
        config = replace(given_too, sources=sources, out=tmp_path / str(number), upstreams=upstreams("careless"))
        (row,) = checked(config)
        assert (row.facts["answer_place"].rpartition("/")[2], row.facts["answer_licence"]) == ("given.jsonl:1", "MIT")
        assert row.facts["licence"] == sources[0].licence
        with Opened(config.out) as opened:
            assert len(list(answers.requests(config, opened.store))) == 1
        counts = Counts()
        counts.add(row)
        assert counts.of("licences") == ({"CC-BY-4.0": 1, "MIT": 1} if sources[0] == asked else {"MIT": 1})


def test_reasons_have_the_stand_ins_of_the_texts_they_quote(tmp_path: Path) -> None:
    """An annotator who names an address does not carry it into the data set."""
    config = config_of(tmp_path, {**ROW, "answer": "Ask ada@lovelace.org."})
    with Opened(config.out) as opened:
        questions.gather(config, opened.store)
        (given,) = opened.store.annotated()
        reason = ("ada@lovelace.org is private",)
        opened.store.add_annotated([replace(given, id="0", text="Ask her.", annotator="other", reasons=reason)])
        verdicts.collect(config, opened.store, opened.ledger, None)
        found = {row.id: row for row in opened.store.checked()}
    assert found["0"].answer == "Ask [EMAIL-1]."
    assert found["0"].facts["reasons"] == ["[EMAIL-1] is private"]


def test_the_length_of_given_corrections_is_looked_at_only_where_that_is_wanted(tmp_path: Path) -> None:
    """People may have refused in a few words what a model wrote at length."""
    words = " ".join(f"word{i}" for i in range(400))
    row = {**ROW, "answer": words, "correction": "I had rather not."}
    assert len(checked(config_of(tmp_path, row))) == 1
    strict = config_of(tmp_path, row, out=tmp_path / "strict", filters=replace(PLAIN, ratio_of_given=True))
    assert checked(strict) == []
    assert dropped(strict) == {"length_ratio": 1}
