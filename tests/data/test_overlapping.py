"""Laws of overlaps: what is planted of an evaluation set is found, however it is written and wherever it stands."""

import os
import re
import unicodedata
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.data.overlapping import Hit, Index
from aligner.data.tabular import read_rows
from aligner.files import bad_rows_named

WORD = st.text("abcdefghijklmnopqrstuvwxyzäöüéßñçжйю", min_size=1, max_size=8)
PLANTED = st.lists(WORD, min_size=1, max_size=30)
SPACE = st.sampled_from([" ", "  ", "\n", "\t", " \u00a0", "\u2003"])
MARKS = st.sampled_from(["", "", ",", ".", "!", "?", ";", ":", "…", "\u201d", ")", "*", "_", "—"])
CASES = st.sampled_from([str, str.upper, str.title, str.capitalize, lambda word: unicodedata.normalize("NFD", word)])
FILLER = st.lists(st.sampled_from("0filler 1filler 2filler 3filler 4filler".split()), max_size=20).map(" ".join)


def disguised(draw: st.DrawFn, words: list[str]) -> str:
    return "".join(draw(CASES)(word) + draw(MARKS) + draw(SPACE) for word in words).strip()


@settings(max_examples=300, deadline=None)
@given(data=st.data(), words=PLANTED, before=FILLER, after=FILLER)
def test_planted_texts_are_found(data: st.DataObject, words: list[str], before: str, after: str) -> None:
    """A text of eight words or more is found anywhere, a shorter one between marks, whatever its case and space."""
    index = Index([("other", "something else entirely is in here"), ("planted", " ".join(words))])
    hidden = data.draw(st.composite(disguised)(words))
    mark = " " if len(words) >= 8 else data.draw(st.sampled_from([". ", "\n", "? ", ": ", ' "']))
    end = " " if len(words) >= 8 else ". "
    text = f"{before}{mark if before else ''}{hidden}{end if after else ''}{after}"
    found = index.find(text)
    assert found is not None
    assert found.name == "planted"


@settings(max_examples=100, deadline=None)
@given(words=st.lists(WORD, min_size=13, max_size=40, unique=True), data=st.data())
def test_twelve_words_in_a_row_are_enough_and_eleven_are_not(words: list[str], data: st.DataObject) -> None:
    """Any twelve words in a row of a longer text are found, and no eleven, but where nearly the whole text is there."""
    index = Index([("set", " ".join(words))])
    start = data.draw(st.integers(0, len(words) - 12))
    other = "9a 9b 9c 9d 9e 9f 9g 9h 9i 9j"
    assert index.find(f"{other} {' '.join(words[start : start + 12])} {other}") == Hit(
        "set", "words", " ".join(words[start : start + 12]).casefold()
    )
    assert index.find(f"{other} {' '.join(words[start : start + 11])} {other}") is None


@given(texts=st.lists(st.text(), max_size=5), text=st.text())
@settings(deadline=None)
def test_any_text_can_be_looked_up(texts: list[str], text: str) -> None:
    """Texts without words, and half letters, are neither found nor trouble."""
    index = Index([("set", each) for each in texts])
    assert index.find(text) is None or any(re.search(r"[^\W_]", each) for each in texts)
    assert index.sizes.get("set", 0) == len(texts)


def test_near_duplicates_of_whole_texts_are_found() -> None:
    """A question with one word of many replaced is found, although no twelve words in a row are shared."""
    words = [f"w{i}" for i in range(22)]
    index = Index([("set", " ".join(words)), ("far", "nothing of the kind is in this one here")])
    words[11] = "other"
    assert index.find(" ".join(words)) == Hit("set", "near", " ".join(words))
    assert index.find(" ".join(reversed(words))) is None


def test_short_texts_inside_a_sentence_are_no_overlap() -> None:
    """Few words that anybody may say are found only where they are a sentence or a line of their own."""
    index = Index([("set", "Are vampires real?")])
    assert index.find("Some ask if are vampires real or not") is None
    assert index.find("Tell me: are Vampires real? Thanks.") == Hit("set", "whole", "are vampires real")
    assert index.find("ARE VAMPIRES REAL") == Hit("set", "whole", "are vampires real")


def test_an_empty_index_finds_nothing() -> None:
    """Without evaluation sets there are no overlaps."""
    assert Index([]).find("any text of any kind") is None


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.skipif("ALIGNER_REAL_DATA" not in os.environ, reason="needs the folder that ALIGNER_REAL_DATA names")
def test_all_questions_of_real_evaluation_sets_are_found_and_hardly_any_of_other_sources() -> None:
    """Each of GSM8K's and TruthfulQA's is found in a disguise; of other questions at most 2 % are called overlaps."""
    folder = Path(os.environ["ALIGNER_REAL_DATA"])
    texts = [
        (name, str(row.data[field]))
        for name, path, field in (
            ("gsm8k", "gsm8k/test.jsonl", "question"),
            ("truthfulqa", "truthfulqa/TruthfulQA.csv", "Question"),
        )
        for row in read_rows(folder / path, bad_rows=bad_rows_named("stop", "out"))
    ]
    index, random = Index(texts), Random(0)
    for name, text in texts:
        shown = random.choice([str.upper, str.lower, str.title])(" ".join(text.split(" ")))
        assert index.find(f"Dear all. {shown.rstrip('?.')}! Thanks, please be brief.") is not None, (name, text)
    others = read_rows(folder / "gsm8k/train.jsonl", bad_rows=bad_rows_named("stop", "out"))
    found = [index.find(str(row.data["question"])) for row in islice(others, 2000)]
    assert sum(hit is not None for hit in found) <= 40
