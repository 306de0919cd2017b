"""Laws of the place in the draft: after every edit the output finds its way back."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.decoding.cursor import TRUSTED, AnswerCursor
from aligner.decoding.drafts import Codec, Draft

END = 0
LENGTH = 60
DISTINCT = tuple(range(100, 100 + LENGTH))
"""a draft in which no token comes twice"""
NEAR = 5
"""tokens from the expected place within which one token outweighs a guess without evidence"""
EDIT = {"at": st.integers(TRUSTED, LENGTH - 20), "size": st.integers(1, 8)}


def characters(width: int) -> Codec:
    """A codec whose tokens are so many letters, so that a letter more or less changes all tokens behind it."""
    known: list[str] = [""]

    def token(piece: str) -> int:
        if piece not in known:
            known.append(piece)
        return known.index(piece)

    return Codec(
        lambda text: [token(text[i : i + width]) for i in range(0, len(text), width)],
        lambda ids: "".join(known[i] for i in ids),
        END,
    )


def follow(cursor: AnswerCursor, output: Sequence[int], size: int = LENGTH) -> int:
    """Feed an output to the cursor as decoding does, with blocks of that size; returns the number of passes."""
    done = passes = 0
    while done < len(output):
        guess, passes = cursor.guess(), passes + 1
        asked = cursor.draft.ids[guess.place :][:size] if guess else ()
        accepted = 0
        while accepted < len(asked) and output[done + accepted : done + accepted + 1] == asked[accepted : accepted + 1]:
            accepted += 1
        tokens = output[done : done + accepted + 1]
        cursor.commit(guess, tokens, accepted)
        done += len(tokens)
    return passes


def new_tokens(count: int) -> tuple[int, ...]:
    """Tokens that are not in the draft."""
    return tuple(range(900, 900 + count))


def place_after(output: Sequence[int], draft: Draft | None = None) -> int | None:
    """Where the output is thought to go on."""
    cursor = AnswerCursor(draft or Draft(DISTINCT))
    follow(cursor, output)
    guess = cursor.guess()
    return guess and guess.place


@given(size=st.integers(1, 80), ids=st.lists(st.integers(1, 3), min_size=1, max_size=LENGTH))
def test_an_output_that_copies_is_followed_to_the_end(size: int, ids: list[int]) -> None:
    """Every pass takes a block and the token behind it, whatever repeats, and at the end there is nothing to guess."""
    cursor = AnswerCursor(Draft(tuple(ids)))
    assert follow(cursor, tuple(ids), size) == -(-len(ids) // (size + 1))
    assert cursor.guess() is None


@given(**EDIT)
def test_after_a_deletion_the_next_tokens_tell_the_place(at: int, size: int) -> None:
    """Where tokens were left out, the first one behind them is enough if it is near, and two always are."""
    needed = 1 if size <= NEAR else 2
    assert place_after(DISTINCT[:at] + DISTINCT[at + size : at + size + needed]) == at + size + needed
    assert follow(AnswerCursor(Draft(DISTINCT)), DISTINCT[:at] + DISTINCT[at + size :]) == needed + 1


@given(**EDIT)
def test_after_an_insertion_the_next_token_tells_the_place(at: int, size: int) -> None:
    """Behind any number of new tokens, the first one that was copied again is enough."""
    assert place_after(DISTINCT[:at] + new_tokens(size) + DISTINCT[at : at + 1]) == at + 1


@given(at=st.integers(TRUSTED, LENGTH - 20), size=st.integers(1, 3))
def test_a_substitution_is_guessed_without_evidence(at: int, size: int) -> None:
    """As many tokens on as were written: nothing has to match first."""
    assert place_after(DISTINCT[:at] + new_tokens(size)) == at + size


@given(at=st.integers(TRUSTED, LENGTH - 20), removed=st.integers(1, 8), written=st.integers(1, 8))
def test_after_a_substitution_of_another_length_the_next_tokens_tell_the_place(
    at: int, removed: int, written: int
) -> None:
    """Longer or shorter, the first token that was copied again is enough if it is near, and two always are."""
    needed = 1 if abs(removed - written) <= NEAR else 2
    behind = at + removed
    copied = DISTINCT[behind : behind + needed]
    assert place_after(DISTINCT[:at] + new_tokens(written) + copied) == behind + needed


def test_after_moved_text_the_place_is_found_in_both_directions() -> None:
    """Text from further on is followed at once; going back takes three tokens that agree."""
    moved = DISTINCT[:10] + DISTINCT[40:50]
    assert place_after(moved) == 50
    assert place_after(moved + DISTINCT[10:12]) != 12
    assert place_after(moved + DISTINCT[10:13]) == 13


def test_an_accidental_short_match_does_not_move_the_anchor() -> None:
    """Two tokens that happen to stand far away do not make the way back longer; a longer copy does."""
    start = (*DISTINCT[:10], *new_tokens(1))
    accidental, copied = DISTINCT[30 : 30 + TRUSTED - 2], DISTINCT[30 : 30 + TRUSTED + 4]
    assert place_after((*start, *accidental, 990)) == 10 + 1 + len(accidental) + 1
    assert place_after((*start, *copied, 990)) == 30 + len(copied) + 1


@pytest.mark.parametrize(
    ("written", "behind"),
    [
        ("A cat sat. Oh no!", "A cat sat. A dog ran!"),
        ("A cat sat. A fox.", "A cat sat. A dog ran!"),
        ("A cat sat. Yes. No.", "A cat sat."),
    ],
    ids=["other-mark", "other-end", "new-sentences"],
)
def test_behind_a_sentence_the_next_one_is_guessed(written: str, behind: str) -> None:
    """A sentence that was written anew stands for the one in its place, or was put before it."""
    codec = characters(1)
    draft = codec.draft("A cat sat. A dog ran! It was late? Then home.")
    place = place_after(codec.encode(written), draft)
    assert place is not None
    assert place in draft.starts
    assert place >= len(behind)


def test_letters_find_the_place_where_tokens_no_longer_line_up() -> None:
    """One letter more makes other tokens of all the rest; the rest is then encoded anew, and followed to the end."""
    codec = characters(3)
    text = "The quick brown fox jumps over the lazy dog while 12 others watch."
    draft, output = codec.draft(text), codec.draft("Then" + text[3:])
    assert not set(draft.ids[6:-1]) & set(output.ids[6:-1])
    cursor = AnswerCursor(draft)
    passes = follow(cursor, output.ids)
    assert cursor.draft is not draft
    assert text.endswith(cursor.draft.text)
    assert passes < 8 < len(output.ids)


@given(
    ids=st.lists(st.integers(1, 4), max_size=30),
    output=st.lists(st.integers(1, 5), max_size=40),
    size=st.integers(1, 9),
)
def test_every_guess_is_a_place_in_the_draft(ids: list[int], output: list[int], size: int) -> None:
    """Whatever is written, a guess has something to try, and its trust and the hazard are probabilities."""
    codec = characters(1)
    draft = codec.draft("".join(".ab c"[i] for i in ids))
    cursor = AnswerCursor(draft)
    for token in codec.encode("".join(".ab cx"[i] for i in output)):
        follow(cursor, [token], size)
        guess = cursor.guess()
        assert guess is None or (0 <= guess.place < len(cursor.draft.ids) and 0 < guess.trust <= 1)
        assert 0 < cursor.hazard < 1


def test_a_guess_that_was_wrong_is_trusted_less_and_one_that_was_right_more() -> None:
    """Trust learns from what became of earlier guesses of the same kind."""

    def trust(right: bool) -> float:
        cursor = AnswerCursor(Draft(DISTINCT))
        follow(cursor, (*DISTINCT[:10], 990))
        before = cursor.guess()
        assert before is not None
        assert before[:2] == (11, "substitution")
        follow(cursor, DISTINCT[11:21] if right else (991,))
        follow(cursor, (992,))
        after = cursor.guess()
        assert after is not None
        assert after.kind == "substitution"
        return after.trust - before.trust

    assert trust(right=False) < 0 < trust(right=True)


def test_copying_lowers_the_hazard_and_edits_raise_it() -> None:
    """The risk of an edit is learnt from the output."""
    cursor = AnswerCursor(Draft(DISTINCT))
    start = cursor.hazard
    follow(cursor, DISTINCT[:20])
    copied = cursor.hazard
    follow(cursor, (990,))
    assert copied < start
    assert copied < cursor.hazard
