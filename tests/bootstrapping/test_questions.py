"""Laws of what is asked: prompts and held-out questions that have nothing in common, dealt to the rounds."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aligner.bootstrapping.questions import apart, drawn, questions_of
from aligner.data.languages import words
from aligner.errors import InputFileError, MisuseError
from aligner.files import write_rows
from aligner.records import Message, Question
from aligner.world.families import FAMILIES
from aligner.world.questions import read_question

LONG = "one two three four five six seven eight nine ten eleven twelve"
"""as many words as may not be shared"""
ODD = st.text(st.sampled_from("aAbB \n.,!?'\u2019\u00e9\u0130\u00df\U0001f642\u3042<|>"), min_size=1, max_size=12)


def of(source: str | Path, out: Path, **others: Any) -> list[Question]:
    usual: dict[str, Any] = {"split": "seen", "seed": 0, "on_bad_row": "stop"}
    return questions_of(str(source), out=out, **(usual | others))


def chat(*turns: str) -> tuple[Message, ...]:
    """A conversation that the user begins."""
    return tuple(Message("assistant" if i % 2 else "user", turn) for i, turn in enumerate(turns))


# ---- where questions come from ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["seen", "unseen"])
def test_the_closed_world_asks_different_questions_of_all_families(tmp_path: Path, split: str) -> None:
    """As many as were wanted, none twice, each of which the world knows; another seed asks others."""
    found = of("world:600", tmp_path / "prompts", split=split)
    assert len(found) == len(set(found)) == 600
    asked = [read_question(question) for question in found if isinstance(question, str)]
    assert {one.family.name for one in asked if one} == {family.name for family in FAMILIES}
    assert None not in asked
    assert of("world:600", tmp_path / "prompts", split=split) == found
    assert of("world:600", tmp_path / "prompts", split=split, seed=1) != found


def test_held_out_questions_name_whom_no_prompt_names(tmp_path: Path) -> None:
    """What both splits ask is of the families that ask for facts alone, which have to be learnt."""
    prompts, held_out = (of("world:2000", tmp_path / "out", split=split) for split in ("seen", "unseen"))
    both = [read_question(question) for question in set(prompts) & set(held_out) if isinstance(question, str)]
    assert {one.family.name for one in both if one} <= {"capital", "author", "young"}


@pytest.mark.parametrize("source", ["world:", "world:0", "world:-3", "world:many", "world:1.5"])
def test_how_many_has_to_be_said(tmp_path: Path, source: str) -> None:
    """No number, or none at all, is misuse, with an example."""
    with pytest.raises(MisuseError, match=f'^"{source}": say how many questions .* as in world:2000$'):
        of(source, tmp_path / "out")


def test_the_closed_world_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has fewer different questions than are wanted, it says so instead of asking for ever."""
    from aligner.bootstrapping import questions

    monkeypatch.setattr(questions, "FAMILIES", [family for family in FAMILIES if family.name == "capital"])
    with pytest.raises(MisuseError, match=r'^"world:5000": the closed world has but some 100 such questions; ask for'):
        of("world:5000", tmp_path / "out")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_files_hold_questions_messages_or_prompts(tmp_path: Path, ending: str) -> None:
    """By whatever name, a text or a conversation; one that comes again is left out."""
    messages = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I."}]
    turns = [*messages, {"role": "user", "content": "Why?"}]
    texts, chats = tmp_path / f"texts{ending}", tmp_path / f"chats{ending}"
    write_rows(texts, [{"question": "Who?"}, {"question": "What?"}, {"question": "Who?"}])
    write_rows(chats, [{"messages": turns}, {"messages": turns}, {"messages": turns[:1]}])
    assert of(texts, tmp_path / "out") == ["Who?", "What?"]
    assert of(chats, tmp_path / "out") == [chat("Who?", "I.", "Why?"), "Who?"]
    write_rows(texts, [{"prompt": "Who?"}, {"prompt": "<|im_end|> \u2028 \U0001f642"}])
    write_rows(chats, [{"prompt": turns}])
    assert of(texts, tmp_path / "out") == ["Who?", "<|im_end|> \u2028 \U0001f642"]
    assert of(chats, tmp_path / "out") == [chat("Who?", "I.", "Why?")]


def test_a_row_that_cannot_be_used_stops_or_is_kept_aside(tmp_path: Path) -> None:
    """The error names file and line; skipped, it lies beside the output with its reason."""
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"question": "Who?"}\n{"answer": "I."}\n{"prompt": 3}\n{"question": "Why?"}\n')
    with pytest.raises(InputFileError, match=rf'^{path}:2: no "question"$'):
        of(path, tmp_path / "prompts")
    assert of(path, tmp_path / "prompts", on_bad_row="skip") == ["Who?", "Why?"]
    skipped = [json.loads(line) for line in (tmp_path / "prompts.skipped.jsonl").read_text().splitlines()]
    assert [(row["line"], row["problem"]) for row in skipped] == [
        (2, 'no "question"'),
        (3, '"prompt" is a number, not text'),
    ]


def test_a_file_without_questions_is_one_clear_line(tmp_path: Path) -> None:
    """Nothing to ask is an error with its cure, and so is a file that is not there."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n")
    with pytest.raises(InputFileError, match=rf'^{path}: no row that can be used; each needs a "question"'):
        of(path, tmp_path / "prompts")
    with pytest.raises(MisuseError, match="no such file"):
        of(tmp_path / "none.jsonl", tmp_path / "prompts")


# ---- prompts and held-out questions ----------------------------------------------------------------------------------


def test_a_held_out_question_is_no_prompt_however_it_is_written() -> None:
    """Case, punctuation and white space make no difference, and whole questions are found whatever their length."""
    prompts = ["WHO  are you", "\u201cwho are you?\u201d", "Who is he?", "Don't!", "\U0001f642 \U0001f642", "?!"]
    for number in (0, 1, 12):
        kept, left_out = apart(prompts, ["Who are you?", "dont", "\U0001f642\U0001f642"], words=number)
        assert kept == ["Who is he?", "?!"] if number != 1 else ["?!"]
        assert left_out["same question"] == 4


def test_a_prompt_that_shares_so_many_words_is_left_out() -> None:
    """From that many words in a row on, unless that is switched off."""
    prompts = [f"First say, {LONG.upper()}!", f"First say, {LONG.replace('six', '6')}!"]
    held_out = [f"Tell me: {LONG}, and go on."]
    assert apart(prompts, held_out, words=12) == ([prompts[1]], {"overlap": 1})
    assert apart(prompts, held_out, words=13) == (prompts, {})
    assert apart(prompts, held_out, words=0) == (prompts, {})
    assert apart(prompts, held_out, words=5) == ([], {"overlap": 2})


def test_a_prompt_that_quotes_a_whole_held_out_question_is_left_out() -> None:
    """Also where that has fewer words than may be shared."""
    prompts = ['Answer this: "Who are you?" Be brief.', "Who are you to say so?"]
    assert apart(prompts, ["Who are you?"], words=12) == ([prompts[1]], {"overlap": 1})


def test_what_is_nearly_the_same_in_other_words_asks_something_else() -> None:
    """A long question about somebody else is kept: it shares fewer words in a row than are forbidden."""
    prompt, held_out = (f"What would you take along on a trip to see {name} and the old town?" for name in ("A", "B"))
    assert apart([prompt], [held_out], words=12).kept == [prompt]


def test_conversations_are_told_by_what_the_user_asks() -> None:
    """Other replies or another system's turn make no other question; a part of a conversation does."""
    held_out = [chat("Who?", "I.", "Why me?"), "How so?"]
    system = Message("system", LONG)
    same = [chat("who", "You.", "why me"), (system, *chat("How so?")), chat("How so?", "So.", "And then?")]
    other = ["Why me?", "Who?", chat("Why me?", "I.", "Who?"), (system, *chat("What?"))]
    assert apart([*same, *other], [*held_out, (system, *chat("Where?"))], words=12) == (other, {"same question": 3})


@given(st.lists(ODD, max_size=8), st.lists(ODD, max_size=4), st.sampled_from([0, 1, 3, 12]))
@example(["Stra\u00dfe?", "\u0130"], ["STRASSE", "i\u0307"], 12)
def test_no_prompt_asks_what_is_held_out(prompts: list[str], held_out: list[str], number: int) -> None:
    """Whatever the texts, no kept one has the words of a held-out one, and all are kept or counted, in order."""
    kept, left_out = apart(prompts, held_out, words=number)
    assert not {tuple(words(str(text))) for text in kept} & ({tuple(words(text)) for text in held_out} - {()})
    assert not set(kept) & set(held_out)
    assert len(kept) + sum(left_out.values()) == len(prompts)
    assert kept == [text for text in prompts if text in set(kept)]


@pytest.mark.parametrize("number", [-1, 65])
def test_so_many_words_cannot_be_looked_for(number: int) -> None:
    """The bounds are told."""
    with pytest.raises(MisuseError, match="--max-overlap is a number of words from 1 to 64, or 0"):
        apart(["Who?"], ["Why?"], words=number)


# ---- prompts of a round ----------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(0, 14), st.integers(0, 3))
def test_rounds_ask_what_was_not_asked_as_long_as_there_is_some(size: int, per_round: int, seed: int) -> None:
    """A round never asks twice, all rounds ask alike often, and a round depends on nothing but seed and number."""
    pool: list[Question] = [f"Who is {i}?" for i in range(size)]
    asked = Counter[Question]()
    for number in range(1, 9):
        now = drawn(pool, per_round=per_round, seed=seed, number=number)
        assert len(now) == len(set(now)) == min(per_round or size, size)
        assert drawn(pool, per_round=per_round, seed=seed, number=number) == now
        asked.update(now)
        assert max(asked.values()) - min(asked[question] for question in pool) <= 1


def test_all_prompts_are_asked_in_another_order_each_round() -> None:
    """With 0 a round, and with another seed."""
    pool: list[Question] = [f"Who is {i}?" for i in range(50)]
    rounds = [drawn(pool, per_round=0, seed=seed, number=number) for seed in (0, 1) for number in (1, 2)]
    assert all(sorted(map(str, asked)) == sorted(map(str, pool)) for asked in rounds)
    assert len({tuple(asked) for asked in [pool, *rounds]}) == 5


def test_without_prompts_nothing_is_drawn() -> None:
    """An empty pool is no endless search."""
    assert drawn([], per_round=3, seed=0, number=2) == []
