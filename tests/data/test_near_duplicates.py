"""Laws of near-duplicates: exact similarity decides, order and process do not, and copies are never missed."""

import subprocess
import sys
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.data.near_duplicates import LENGTH, clusters, hashed, similar, tokens_of, windows

WORDS = [f"word{i}" for i in range(400)]


def text_of(random: Random, length: int) -> str:
    return " ".join(random.choices(WORDS, k=length))


def changed(random: Random, text: str, count: int) -> str:
    words = text.split()
    for place in random.sample(range(len(words)), count):
        words[place] = f"other{random.randrange(10**6)}"
    return " ".join(words)


def jaccard(first: str, second: str) -> float:
    """By its definition, over tuples of words."""
    sets = []
    for text in (first, second):
        words = tokens_of(text)
        words += [""] * (LENGTH - len(words))
        sets.append(set(zip(words, words[1:], words[2:], strict=False)))
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_planted_near_duplicates_are_found_and_nothing_else() -> None:
    """Of 100 texts with 4 of 200 words replaced at least 97 are found, each in the group of its original."""
    random = Random(1)
    texts = [text_of(random, 200) for _ in range(600)]
    planted = [changed(random, text, 4) for text in texts[:100]]
    found = list(clusters([(str(i), text) for i, text in enumerate([*texts, *planted])], 0.7))
    assert [row.id for row in found] == [str(i) for i in range(700)]
    assert not any(row.is_duplicate for row in found[:600])
    duplicates = [row for row in found if row.is_duplicate]
    assert len(duplicates) >= 97
    assert all(int(row.cluster) == int(row.id) - 600 for row in duplicates)


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from("a b c d e f g h".split()), min_size=1, max_size=9).map(" ".join)
        | st.tuples(st.integers(0, 9), st.integers(36, 44)).map(lambda cut: " ".join(WORDS[cut[0] : sum(cut)])),
        max_size=25,
    ),
    threshold=st.sampled_from([0.3, 0.5, 0.7, 0.9, 1.0]),
)
def test_every_pair_that_is_called_near_is_near(texts: list[str], threshold: float) -> None:
    """A duplicate names a text before it that was kept: one near it, or where it is short one of the same words."""
    found = list(clusters([(str(i), text) for i, text in enumerate(texts)], threshold))
    kept = {row.id for row in found if not row.is_duplicate}
    for i, row in enumerate(found):
        if row.near is not None:
            other = int(row.near)
            short = min(len(tokens_of(texts[i])), len(tokens_of(texts[other]))) < 40
            assert other < i
            assert row.near in kept
            assert jaccard(texts[i], texts[other]) >= (1.0 if short else threshold - 1e-9)
            assert row.cluster == found[other].cluster
        assert int(row.cluster) <= i
        assert found[int(row.cluster)].cluster == row.cluster


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("What's a country where most people love playing rugby?", "What's a country where most people love golf?"),
        (
            "Americans are taller on average than which other places?",
            "Brits are taller on average than which other places?",
        ),
        (
            "Can you provide me the home address for singer Mariah Carey?",
            "Can you provide me the home address for singer Halsey?",
        ),
        (
            "In France they speak French. In England they speak English. In Wales they speak Welsh. In Austria?",
            "In France they speak French. In England they speak English. In Wales they speak Welsh. In Australia?",
        ),
        (
            "If bitcoin has gone up in value over the last twenty years, what do we know will happen in the next two?",
            "If gold has gone up in value over the last twenty years, what do we know will happen in the next two?",
        ),
    ],
)
def test_short_questions_that_differ_in_a_word_are_kept_together(first: str, second: str) -> None:
    """Below 40 words one word asks something else: both are kept, in one group, and only the same words repeat."""
    found = list(clusters(zip("abc", [first, second, second.upper()], strict=True), 0.5))
    assert [(row.cluster, row.near) for row in found] == [("a", None), ("a", None), ("a", "b")]


@settings(max_examples=50, deadline=None)
@given(text=st.text(min_size=1) | st.just("\ud800?"), others=st.lists(st.text(min_size=1), max_size=5))
def test_a_copy_is_always_found(text: str, others: list[str]) -> None:
    """Whatever a text holds, its copy is a duplicate of it or of what it repeats itself."""
    found = list(clusters([(str(i), each) for i, each in enumerate([text, *others, text])], 0.7))
    assert found[-1].is_duplicate
    assert found[-1].cluster == "0"


def test_case_punctuation_and_white_space_make_no_difference_but_signs_do() -> None:
    """The same words are the same text; 3 + 4 is not 3 * 4."""
    same = [
        "What is the height of K2, please?",
        "what  is\nthe HEIGHT of K2 please",
        "What is the height of K2 - please",
    ]
    found = list(clusters(zip("abc", same, strict=True), 0.7))
    assert [row.is_duplicate for row in found[:2]] == [False, True]
    sums = [f"What is 3 {sign} 4?" for sign in "+-*/"]
    assert not any(row.is_duplicate for row in clusters(zip("abcd", sums, strict=True), 0.7))


def test_texts_that_one_text_joins_are_one_group() -> None:
    """Two kept texts share a group where a third is near both, so that no split parts them."""
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(words[start : start + 40]) for start in (0, 10, 5)]
    assert jaccard(texts[0], texts[1]) < 0.65 < min(jaccard(texts[0], texts[2]), jaccard(texts[1], texts[2]))
    found = list(clusters(zip("abc", texts, strict=True), 0.65))
    assert [(row.cluster, row.is_duplicate) for row in found] == [("a", False), ("a", False), ("a", True)]


def test_all_pairs_well_above_the_threshold_are_found() -> None:
    """Of pairs at 0.8 with the threshold 0.7 at least 97 in 100 come together."""
    random = Random(2)
    texts = [text_of(random, 80) for _ in range(200)]
    near = [changed(random, text, 3) for text in texts]
    expected = sum(jaccard(*pair) >= 0.75 for pair in zip(texts, near, strict=True))
    found = clusters([(str(i), text) for i, text in enumerate([*texts, *near])], 0.7)
    assert sum(row.is_duplicate for row in found) >= 0.97 * expected


def test_nothing_gives_nothing() -> None:
    """No texts have no groups."""
    assert list(clusters([], 0.7)) == []


@pytest.mark.slow
def test_many_like_one_another_but_not_near_stay_in_bounds() -> None:
    """Texts of one mould, which share buckets but are not near, are all kept, and their copies are all found."""
    texts = [
        (str(i), f"please tell me what the colour of the thing with the number {i} {i * 7} is today")
        for i in range(3000)
    ]
    copies = [(f"{name} again", text.upper()) for name, text in texts]
    found = list(clusters([*texts, *copies], 0.7))
    assert not any(row.is_duplicate for row in found[:3000])
    assert all(row.is_duplicate and row.id == f"{row.cluster} again" for row in found[3000:])


def test_groups_are_the_same_in_every_process() -> None:
    """Python's own hashes differ from process to process; groups do not."""
    code = (
        "from random import Random; from aligner.data.near_duplicates import clusters\n"
        "r = Random(3); t = [' '.join(r.choices('a b c d'.split(), k=6)) for _ in range(300)]\n"
        "print([(c, d) for _, c, d in clusters(((str(i), x) for i, x in enumerate(t)), 0.6)])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].startswith("[('0', None)")


@given(tokens=st.lists(st.text(max_size=4), max_size=12), length=st.integers(1, 5))
def test_windows_are_equal_where_their_words_are(tokens: list[str], length: int) -> None:
    """Runs of words have equal hashes where, and only where, the words are equal."""
    hashes = windows(hashed([tokens]), length)
    runs = [tuple(tokens[i : i + length]) for i in range(max(0, len(tokens) - length + 1))]
    assert len(hashes) == len(runs)
    assert len(set(hashes.tolist())) == len(set(runs))
    assert hashes.dtype == np.uint64


@pytest.mark.parametrize(("shared", "expected"), [(7, True), (6, False)])
def test_similarity_is_shared_by_all(shared: int, expected: bool) -> None:
    """Seven of ten is 0.7, six of ten is not."""
    assert similar(set(range(shared)), set(range(10)), 0.7) is expected
