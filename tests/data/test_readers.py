"""Laws of readers: the preferred reply is the correction, the other the answer, and what holds no pair says why."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.data.readers import FORMATS, Fields, NoTriple, hh_rlhf, pku_saferlhf, reader_named, triples, ultrafeedback
from aligner.errors import MisuseError
from aligner.files import RowError
from aligner.records import Message, Triple

WORDS = st.text(st.characters(categories=["L", "N", "P"]), min_size=1)


# ---- triples ---------------------------------------------------------------------------------------------------------


def test_triples_take_fields_by_dotted_paths() -> None:
    """A path reaches into objects and lists, and its name becomes the source."""
    row = {"q": {"text": "what?"}, "models": [{"out": "that"}, {"out": "this"}], "a.b": "flat"}
    fields = Fields(question="q.text", answer="models.0.out", correction="models.1.out")
    assert triples(row, fields) == Triple("what?", "that", "this", ("q.text", "models.0.out", "models.1.out"))
    assert triples(row, Fields(question="a.b", answer="a.b", correction="a.b")).question == "flat"


@pytest.mark.parametrize(
    "path", ["q.none", "q.text.0", "models.2.out", "models.out", "models.-1.out", "none.none", "models.0.out.x"]
)
def test_path_that_leads_nowhere_is_named(path: str) -> None:
    """A field that is not there is a bad row that names the whole path."""
    row = {"q": {"text": "what?"}, "models": [{"out": "that"}, {"out": "this"}]}
    with pytest.raises(RowError) as caught:
        triples(row, Fields(question="q.text", answer="models.0.out", correction=path))
    assert str(caught.value) == f'no "{path}"'


def test_triples_keep_sources_and_conversations() -> None:
    """A row that says where it came from keeps that, and `messages` stands in for an absent question."""
    row = {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]}
    found = triples({**row, "answer": "a", "correction": "c", "sources": ["x", "y", "z"]})
    assert found == Triple((Message("system", "be kind"), Message("user", "hi")), "a", "c", ("x", "y", "z"))


# ---- HH-RLHF ---------------------------------------------------------------------------------------------------------


def transcript(*turns: str) -> str:
    """Turns of the human and the assistant by turns, as HH-RLHF writes them."""
    return "".join(f"\n\n{('Human', 'Assistant')[i % 2]}: {turn}" for i, turn in enumerate(turns))


@given(
    turns=st.lists(WORDS, min_size=1, max_size=5).filter(lambda turns: len(turns) % 2 == 1),
    replies=st.tuples(WORDS, WORDS),
)
def test_transcripts_come_apart_into_question_and_replies(turns: list[str], replies: tuple[str, str]) -> None:
    """What both transcripts share is the question; equal replies hold no triple."""
    rejected, chosen = replies
    found = hh_rlhf({"chosen": transcript(*turns, chosen), "rejected": transcript(*turns, rejected)})
    if rejected == chosen:
        assert found == NoTriple("both replies are the same")
        return
    messages = tuple(Message("assistant" if i % 2 else "user", turn) for i, turn in enumerate(turns))
    question = turns[0] if len(turns) == 1 else messages
    assert found == Triple(question, rejected, chosen, ("hh-rlhf", "rejected", "chosen"))


def test_white_space_around_turns_is_no_part_of_them() -> None:
    """Transcripts whose shared part differs in white space alone still share it."""
    chosen = "Human: one  two\n\nAssistant: a reply \n"
    rejected = "\n\nHuman:one two\n\n\n\nAssistant: another\n\nwith a blank line"
    found = hh_rlhf({"chosen": chosen, "rejected": rejected})
    assert found == Triple("one  two", "another\n\nwith a blank line", "a reply", ("hh-rlhf", "rejected", "chosen"))


def test_turns_of_one_speaker_in_a_row_are_one_turn() -> None:
    """A reply in two pieces is one reply, and an empty piece adds nothing."""
    chosen = "\n\nHuman: hi\n\nAssistant: one\n\nAssistant: two"
    rejected = "\n\nHuman: hi\n\nAssistant: \n\nAssistant: three"
    assert hh_rlhf({"chosen": chosen, "rejected": rejected}) == Triple(
        "hi", "three", "one\n\ntwo", ("hh-rlhf", "rejected", "chosen")
    )


@pytest.mark.parametrize(
    ("chosen", "problem"),
    [
        (None, 'no "chosen"'),
        ("free text", '"chosen" is not a transcript: it does not start with "Human:" or "Assistant:"'),
        ("free\n\nHuman: hi\n\nAssistant: ho", '"chosen" is not a transcript: it does not start with'),
        ("\n\nHuman: hi", '"chosen" does not end with a reply of the assistant to the human'),
        ("\n\nAssistant: ho", '"chosen" does not end with a reply of the assistant to the human'),
        ("\n\nHuman: hi\n\nAssistant: ho\n\nHuman: and?", '"chosen" does not end with a reply'),
        ("\n\nHuman: hi\n\nAssistant: ", '"chosen" ends with an empty reply'),
        ("\n\nHuman: \n\nAssistant: ho", '"chosen" has an empty question'),
        ("\n\nHuman: other\n\nAssistant: ho", '"chosen" and "rejected" differ before the last reply'),
        ("\n\nHuman: hi\n\nAssistant: a\n\nHuman: b\n\nAssistant: c", '"chosen" and "rejected" differ before'),
    ],
)
def test_transcript_that_holds_no_pair_says_why(chosen: object, problem: str) -> None:
    """Each way in which a transcript can be irregular has its own words."""
    with pytest.raises(RowError) as caught:
        hh_rlhf({"chosen": chosen, "rejected": "\n\nHuman: hi\n\nAssistant: hey"})
    assert str(caught.value).startswith(problem)


# ---- PKU-SafeRLHF ----------------------------------------------------------------------------------------------------


def safe_row(better: int | None, safer: int | None, safe: tuple[object, object]) -> dict[str, object]:
    """One row of PKU-SafeRLHF."""
    return {
        "prompt": "how?",
        "response_0": "zero",
        "response_1": "one",
        "is_response_0_safe": safe[0],
        "is_response_1_safe": safe[1],
        "better_response_id": better,
        "safer_response_id": safer,
    }


@pytest.mark.parametrize(
    ("better", "safer", "safe", "preferred"),
    [
        (0, 0, (False, True), 0),
        (1, 1, (None, None), 1),
        (0, 1, (True, True), 0),
        (0, 1, (False, True), 1),
        (0, 1, (False, False), 1),
        (1, 0, (True, False), 0),
        (1, 0, (False, True), 1),
        (None, 1, (None, None), 1),
        (0, None, (None, None), 0),
    ],
)
def test_better_response_is_preferred_unless_it_is_unsafe(
    better: int | None, safer: int | None, safe: tuple[object, object], preferred: int
) -> None:
    """Where better and safer part, the better one wins only if it is safe; one label alone decides."""
    names = ("zero", "one")
    assert pku_saferlhf(safe_row(better, safer, safe)) == Triple(
        "how?",
        names[1 - preferred],
        names[preferred],
        ("pku-saferlhf", f"response_{1 - preferred}", f"response_{preferred}"),
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (safe_row(None, None, (True, True)), 'no "better_response_id" and no "safer_response_id"'),
        (safe_row(2, 0, (True, True)), '"better_response_id" is neither 0 nor 1'),
        (safe_row(0, True, (True, True)), '"safer_response_id" is neither 0 nor 1'),
        (safe_row(0, 1, (None, True)), 'no "is_response_0_safe"'),
        (safe_row(1, 0, (True, "yes")), '"is_response_1_safe" is text, not true or false'),
        ({**safe_row(0, 0, (True, True)), "response_1": ""}, '"response_1" is empty'),
        ({**safe_row(0, 0, (True, True)), "prompt": None}, 'no "prompt"'),
    ],
)
def test_labels_that_decide_nothing_are_named(row: dict[str, object], problem: str) -> None:
    """A label that is missing or no label is a bad row, but only where it is needed."""
    with pytest.raises(RowError) as caught:
        pku_saferlhf(row)
    assert str(caught.value) == problem


def test_equal_responses_hold_no_triple() -> None:
    """Two responses that are the same teach nothing."""
    row = {**safe_row(0, 0, (True, True)), "response_1": "zero"}
    assert pku_saferlhf(row) == NoTriple("both replies are the same")


# ---- UltraFeedback ---------------------------------------------------------------------------------------------------


def scored(*scores: float | None, score: str = "fine-grained_score") -> dict[str, object]:
    """One row of UltraFeedback as it was published, with a reply for each score."""
    replies = [{"model": f"m{i}", "response": f"reply {i}", score: value} for i, value in enumerate(scores)]
    return {"instruction": "do it", "completions": replies}


@given(scores=st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_best_of_the_replies_corrects_the_worst(scores: list[float]) -> None:
    """The first of the lowest scores is the answer and the first of the highest the correction; a tie is no triple."""
    worst, best = scores.index(min(scores)), scores.index(max(scores))
    expected = Triple("do it", f"reply {worst}", f"reply {best}", ("ultrafeedback", f"m{worst}", f"m{best}"))
    tie = NoTriple("all replies have the same score")
    for score in ("fine-grained_score", "overall_score"):
        assert ultrafeedback(scored(*scores, score=score)) == (tie if worst == best else expected)


def test_fine_grained_scores_go_before_overall_ones() -> None:
    """The overall score decides only where a fine-grained one is missing."""
    row = {
        "instruction": "do it",
        "completions": [
            {"response": "a", "fine-grained_score": 1.5, "overall_score": 10},
            {"response": "b", "fine-grained_score": 4.0, "overall_score": 7},
        ],
    }
    sources = ("ultrafeedback", "completions.0", "completions.1")
    assert ultrafeedback(row) == Triple("do it", "a", "b", sources)
    row["completions"][0]["fine-grained_score"] = None  # type: ignore[index]
    assert ultrafeedback(row) == Triple("do it", "b", "a", (sources[0], sources[2], sources[1]))


def pair(*, question: object = "do it", chosen: object = "good", **more: object) -> dict[str, object]:
    """One row of UltraFeedback as pairs of messages."""
    sides = {
        name: [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
        for name, reply in (("chosen", chosen), ("rejected", "bad"))
    }
    return {"prompt": "do it", **sides, **more}


def test_message_pairs_become_triples() -> None:
    """The shared messages are the question, or the prompt where there are none; equal scores are a tie."""
    expected = Triple("do it", "bad", "good", ("ultrafeedback", "rejected", "chosen"))
    assert ultrafeedback(pair()) == expected
    assert ultrafeedback(pair(score_chosen=8.0, score_rejected=7.0)) == expected
    assert ultrafeedback(pair(score_chosen=8.0, score_rejected=8.0)) == NoTriple("all replies have the same score")
    assert ultrafeedback(pair(chosen="bad")) == NoTriple("both replies are the same")
    replies = {name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    assert ultrafeedback({"prompt": "do it", **replies}) == Triple(
        "do it", "rejected", "chosen", ("ultrafeedback", "rejected", "chosen")
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({}, '"chosen" does not end with a reply of the assistant'),
        (pair(chosen=""), '"chosen.1.content" is empty'),
        (pair(question=" "), "there is no question of the user before the reply"),
        ({**pair(), "rejected": [{"role": "user", "content": "do it"}]}, '"rejected" does not end with a reply'),
        ({**pair(), "rejected": pair(question="other")["chosen"]}, '"chosen" and "rejected" differ before the last'),
        ({**pair(), "chosen": "text"}, '"chosen" is text, not a list of messages'),
        (scored(1, None), "the completions do not all have a number as fine-grained_score or overall_score"),
        ({**scored(1, 2), "instruction": None}, 'no "instruction"'),
        ({"instruction": "do it", "completions": ["text"]}, '"completions" is not a list of objects'),
        ({"instruction": "do it", "completions": 7}, '"completions" is not a list of objects'),
        (
            {"instruction": "do it", "completions": [{"overall_score": 1}, {"overall_score": 2, "response": "b"}]},
            'no "completions.0.response"',
        ),
    ],
)
def test_feedback_that_holds_no_pair_says_why(row: dict[str, object], problem: str) -> None:
    """Each way in which a row can be irregular has its own words."""
    with pytest.raises(RowError) as caught:
        ultrafeedback(row)
    assert str(caught.value).startswith(problem)


def test_single_reply_holds_no_triple() -> None:
    """Where there is nothing to compare there is no triple, and that is no error."""
    assert Counter(map(ultrafeedback, (scored(), scored(3)))) == {NoTriple("fewer than two replies"): 2}


# ---- by name ---------------------------------------------------------------------------------------------------------


def test_formats_are_found_by_name() -> None:
    """Every format has a reader; an unknown one is refused with the nearest known."""
    for name in FORMATS:
        with pytest.raises(RowError):
            reader_named(name)({})
    with pytest.raises(MisuseError, match='unknown format "hh-rlfh"; did you mean "hh-rlhf"'):
        reader_named("hh-rlfh")


def test_names_of_fields_are_for_triples_alone() -> None:
    """A mapping that would not be used is refused rather than ignored."""
    fields = Fields(answer="draft")
    row = {"question": "what?", "draft": "that", "correction": "this"}
    assert reader_named("triples", fields)(row) == Triple("what?", "that", "this", ("question", "draft", "correction"))
    with pytest.raises(MisuseError, match='names of fields are for the format "triples"; "hh-rlhf" has its own'):
        reader_named("hh-rlhf", fields)
