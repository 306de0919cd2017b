"""Laws of reading ahead: what is read while an answer grows saves reading, and changes nothing."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import exact_writer, tiny_aligner

from aligner.correcting.lm_writer import LMWriter
from aligner.correcting.reading import LEAST, Reading
from aligner.decoding.decoder import Decoded, Decoder, Request
from aligner.records import Exchange, Message, Question, SamplingParams

SHORT = SamplingParams(max_tokens=12)
QUESTIONS: tuple[Question, ...] = (
    "Why?",
    "How many legs has a spider? " * 4,
    (Message("system", "Be kind."), Message("user", "Who are you? " * 3)),
)
WORDS = st.sampled_from(["spider", " is", " Paris", ". ", "é", "🙂", "<|answer|>", "<|correction|>", "\n\n", "8", " a"])
INSTRUCTIONS = st.sampled_from(["", "make it more concise <|question|>"])
ANSWERS = st.lists(WORDS, min_size=1, max_size=60).map("".join)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> LMWriter:
    return exact_writer(tiny_aligner(tmp_path_factory.mktemp("aligner"), context=1024))


def decoder_of(writer: LMWriter) -> Decoder:
    """Its decoder, which can read ahead."""
    decoder = writer.start(1)
    assert isinstance(decoder, Decoder)
    return decoder


def read(writer: LMWriter, question: Question, pieces: Sequence[str], instruction: str = "") -> Reading:
    """Read as much as can be read whenever a piece has come."""
    reading = Reading(question, instruction)
    for piece in ("", *pieces):
        reading.add(piece)
        while reading.worth_a_look:
            reading.read(reading.look(), decoder_of(writer), writer.encoder, context=writer.context)
    return reading


def decode(writer: LMWriter, request: Request) -> Decoded:
    """What becomes of one request."""
    (end,) = [step.end for step in decoder_of(writer).decode([request]) if step.end is not None]
    return end


def pieces_of(text: str, places: Sequence[int]) -> list[str]:
    """A text cut at these places, each taken modulo its length."""
    cuts = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


@settings(max_examples=25)
@given(
    question=st.sampled_from(QUESTIONS),
    answer=ANSWERS,
    places=st.lists(st.integers(0, 500), max_size=12),
    other=ANSWERS,
    told=INSTRUCTIONS,
)
def test_what_was_read_ahead_changes_no_token(
    writer: LMWriter, question: Question, answer: str, places: list[int], other: str, told: str
) -> None:
    """However the answer came, tokens and figures are those without it; also where another answer had been coming."""
    for coming in (answer, answer[: len(answer) // 2] + other):
        exchange = Exchange(question, answer, instruction=told)
        prompt = writer.prompt(exchange)
        plain = writer.request(prompt, exchange, SHORT)
        beginning = read(writer, question, pieces_of(coming, places), told).beginning
        ahead = decode(writer, replace(plain, read=beginning))
        alone = decode(writer, plain)
        assert ahead.tokens == alone.tokens
        assert ahead.passes == alone.passes
        assert ahead.confidence == pytest.approx(alone.confidence)


@settings(max_examples=25)
@given(
    question=st.sampled_from(QUESTIONS),
    answer=ANSWERS,
    places=st.lists(st.integers(0, 500), max_size=12),
    told=INSTRUCTIONS,
)
def test_little_is_left_to_read_of_an_answer_that_has_come(
    writer: LMWriter, question: Question, answer: str, places: list[int], told: str
) -> None:
    """All but the last piece was read as far as passes of their least size go, and it is the prompt's beginning."""
    reading = read(writer, question, pieces_of(answer, places), told)
    prompt = writer.prompt(Exchange(question, answer, instruction=told))
    found = reading.beginning.tokens
    assert found == prompt[: len(found)]
    assert reading.beginning.cache.length == len(found)
    # Those of less than a pass, those held back, and the template's own behind the answer.
    assert len(prompt) - len(found) < 2 * LEAST + 8 + 8


def test_what_does_not_fit_is_not_read(writer: LMWriter) -> None:
    """A prompt that fills the context is left to whoever says so."""
    reading = read(writer, "Why?", ["so " * 1000])
    assert len(reading.beginning.tokens) < writer.context
    assert not reading.worth_a_look


def test_a_few_letters_are_not_worth_a_pass(writer: LMWriter) -> None:
    """Passes come with every so many letters, not with every piece."""
    reading = read(writer, "Why?", [])
    looks = 0
    for letter in "It is so because it was so. " * 8:
        reading.add(letter)
        if reading.worth_a_look:
            looks += 1
            reading.read(reading.look(), decoder_of(writer), writer.encoder, context=writer.context)
    assert 2 <= looks <= len("It is so because it was so. " * 8) / LEAST
