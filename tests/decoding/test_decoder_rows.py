"""Laws of the rows of drafted decoding: when they enter and end, their passes, and what is told of their drafts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from families import DRIVEN, VOCABULARY, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.decoding.blocks import BlockPolicy, MeasuredBlocks, no_drafts, whole_drafts
from aligner.decoding.decoder import Beginning, Decoded, Decoder, Request
from aligner.decoding.drafts import Draft
from aligner.decoding.packed import packed

END = VOCABULARY - 1
MEASURED = MeasuredBlocks(lambda tokens: 1 + tokens / 20)


def request(prompt: Sequence[int], draft: Sequence[int] = (), **others: Any) -> Request:
    """A request without an end."""
    usual: dict[str, Any] = {"limit": 30, "ends": frozenset()}
    return Request(prompt=prompt, draft=Draft(tuple(draft)), **(usual | others))


def decode(
    requests: Sequence[Request], *, family: str = "llama", blocks: BlockPolicy = whole_drafts, rows: int = 64
) -> list[Decoded]:
    """What became of each request."""
    steps = Decoder(packed(random_model(family)), blocks, rows).decode(requests)
    found = {step.number: step.end for step in steps if step.end is not None}
    return [found[number] for number in range(len(requests))]


@contextmanager
def counted_passes(family: str) -> Iterator[list[int]]:
    """One entry for every forward pass of the model while this lasts."""
    passes: list[int] = []
    body = random_model(family).base_model
    hook = body.register_forward_hook(lambda *_: passes.append(1))
    try:
        yield passes
    finally:
        hook.remove()


@contextmanager
def counted_tokens(family: str) -> Iterator[list[int]]:
    """The number of tokens that each forward pass of the model reads while this lasts."""
    tokens: list[int] = []
    body = random_model(family).base_model
    hook = body.register_forward_pre_hook(
        lambda _, __, given: tokens.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        yield tokens
    finally:
        hook.remove()


def copies(logits: torch.Tensor, position: int, script: Sequence[int]) -> torch.Tensor:
    """A bonus for the tokens of a script."""
    bonus = torch.zeros_like(logits)
    wanted = [*script, *[END] * len(logits)][position : position + len(logits)]
    bonus[range(len(wanted)), wanted] = 50
    return logits + bonus


def unchanged(prompt: Sequence[int], answer: Sequence[int]) -> Request:
    """A request whose model gives the answer back."""
    script = [*answer, END]
    return request(prompt, script, limit=90, ends=frozenset({END}), adjust=lambda x, at: copies(x, at, script))


@pytest.mark.parametrize("family", DRIVEN)
@pytest.mark.parametrize("blocks", [whole_drafts, MEASURED], ids=["whole", "measured"])
def test_an_unchanged_answer_takes_one_pass(family: str, blocks: BlockPolicy) -> None:
    """Prompt, answer and end are read in one forward pass of the model, alone and in a ragged batch."""
    lengths = (1, 40, 7, 0, 25)
    requests = [unchanged([5] * (length % 9 + 1), [3 + i % 20 for i in range(length)]) for length in lengths]
    decoder = Decoder(packed(random_model(family)), blocks)
    for together in (requests, requests[1:2]):
        with counted_passes(family) as passes:
            ends = [step.end for step in decoder.decode(together)]
        assert len(passes) == 1
        for end, asked in zip(ends, together, strict=True):
            assert end is not None
            assert end.tokens == list(asked.draft.ids)
            assert (end.passes, end.drafted, end.accepted) == (1, len(asked.draft.ids), len(asked.draft.ids))
            assert end.confidence == pytest.approx(1)


@settings(max_examples=25)
@given(
    family=st.sampled_from([*DRIVEN]),
    draft=st.lists(st.integers(3, END), min_size=1, max_size=30),
    right=st.integers(0, 30),
)
def test_confidence_and_doubt_are_teacher_forced_probabilities(family: str, draft: list[int], right: int) -> None:
    """They are what one plain forward over prompt and draft says of the draft's tokens, behind a mismatch too."""
    model, prompt = random_model(family), [5, 6, 7]
    draft = (decode([request(prompt)], family=family)[0].tokens[:right] + draft)[:30]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + draft]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    expected = logits.double().softmax(-1)[range(len(draft)), draft]
    beside = request([8] * 5, [9] * 40)
    found = decode([beside, request(prompt, draft, doubt=True), request(prompt, draft)], family=family)
    assert found[1].doubt == pytest.approx((1 - expected).tolist(), abs=1e-5)
    wrong = (logits.argmax(-1) != torch.tensor(draft)).nonzero()
    judged = int(wrong[0]) + 1 if len(wrong) else len(draft)
    for each in found[1:]:
        assert each.confidence == pytest.approx(float(expected[:judged].min()), abs=1e-5)
        assert each.tokens == found[2].tokens
    assert (found[0].doubt, found[2].doubt) == (None, None)


def test_without_a_draft_there_is_no_confidence() -> None:
    """Nothing that was not judged is told of."""
    for found in (*decode([request([5], doubt=True)]), *decode([request([5], [6, 7])], blocks=no_drafts)):
        assert (found.confidence, found.doubt, found.drafted, found.passes) == (None, None, 0, 30)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("pass_tokens", [1, 20, 1024])
def test_rows_enter_when_others_leave(rows: int, pass_tokens: int) -> None:
    """Few places give what places for all give, however small the passes."""
    requests = [request([5 + i] * (i + 1), [6, 7] * i, limit=(30, 4, 11)[i % 3]) for i in range(7)]
    expected = [each.tokens for each in decode(requests, rows=7)]
    steps = Decoder(packed(random_model("llama")), whole_drafts, rows, pass_tokens).decode(requests)
    found = {step.number: step.end.tokens for step in steps if step.end is not None}
    assert [found[i] for i in range(7)] == expected


def test_requests_are_taken_when_there_is_room() -> None:
    """No more requests are held than there are rows, so that a stream of any length fits the memory."""
    taken: list[int] = []
    ended = 0

    def stream() -> Iterator[Request]:
        for number in range(9):
            taken.append(number)
            yield request([5 + number], limit=number % 4 + 1)

    for step in Decoder(packed(random_model("llama")), whole_drafts, 2).decode(stream()):
        ended += step.end is not None
        assert len(taken) <= ended + 2
    assert ended == len(taken) == 9


def test_an_iterator_that_was_empty_is_asked_again() -> None:
    """Requests that come while others are decoded enter then, and the decoder ends when there are none at all."""
    coming = {3: request([5, 6], limit=9), 6: request([7], [8, 8], limit=4)}
    asked = 0

    class Live:
        def __iter__(self) -> Iterator[Request]:
            return self

        def __next__(self) -> Request:
            nonlocal asked
            asked += 1
            if asked == 1:
                return request([4], limit=12)
            if asked in coming:
                return coming[asked]
            raise StopIteration

    steps = list(Decoder(packed(random_model("llama")), whole_drafts).decode(Live()))
    found = {step.number: step.end.tokens for step in steps if step.end is not None}
    alone = [each.tokens for each in decode([request([4], limit=12), *coming.values()])]
    assert [found[number] for number in range(3)] == alone
    assert next(i for i, step in enumerate(steps) if step.number == 1) < len(steps) - 9


@settings(max_examples=25)
@given(
    family=st.sampled_from([*DRIVEN]),
    begun=st.lists(st.lists(st.integers(3, 9), min_size=1, max_size=20), max_size=3),
    prompt=st.lists(st.integers(3, 9), min_size=1, max_size=20),
    shared=st.integers(0, 20),
)
def test_what_was_read_of_a_prompt_changes_nothing(
    family: str, begun: list[list[int]], prompt: list[int], shared: int
) -> None:
    """Whatever was read before, right or wrong, the tokens are the same, and only what is new is fed."""
    model, beginning = packed(random_model(family)), Beginning()
    decoder = Decoder(model, whole_drafts)
    for part in begun:
        decoder.read(beginning, prompt[:shared] + part)
        assert beginning.tokens == prompt[:shared] + part
    same = [old == new for old, new in zip(beginning.tokens, prompt[:-1], strict=False)]
    kept = [*same, False].index(False)
    draft = [5, 6, 7]
    with counted_tokens(family) as fed:
        (step,) = decoder.decode([request(prompt, draft, limit=1, read=beginning)])
    assert step.tokens == decode([request(prompt, draft, limit=1)], family=family)[0].tokens
    assert fed == [len(prompt) - kept + 1]
    beside = [request([4] * 9, limit=8), request(prompt, draft, limit=8, read=beginning)]
    assert decode(beside, family=family)[1].tokens == decode([request(prompt, draft, limit=8)], family=family)[0].tokens


@settings(max_examples=25)
@given(draft=st.lists(st.integers(3, END), min_size=1, max_size=25), gate=st.floats(0, 1), right=st.integers(0, 25))
def test_a_gate_ends_after_the_first_pass(draft: list[int], gate: float, right: int) -> None:
    """A confidence that is enough ends the text there, and any other changes nothing."""
    draft = (decode([request([5, 6])])[0].tokens[:right] + draft)[:25]
    (plain,) = decode([request([5, 6], draft)])
    (gated,) = decode([request([5, 6], draft, gate=gate)])
    assert plain.confidence is not None
    assert gated.confidence == plain.confidence
    enough = plain.confidence >= gate
    assert gated.passes == (1 if enough else plain.passes)
    assert gated.tokens == plain.tokens[: len(gated.tokens)]
    assert enough or gated == plain


def test_a_draft_that_has_no_room_is_not_judged() -> None:
    """A confidence is that of a whole draft, or of one that is wrong: its right beginning says nothing of the rest."""
    (whole,) = decode([request([5, 6])])
    (found,) = decode([request([5, 6], whole.tokens, limit=9, gate=0.0)])
    assert (found.tokens, found.confidence) == (whole.tokens[:9], None)
    (wrong,) = decode([request([5, 6], [*whole.tokens[:3], 3 + whole.tokens[3] % 20, 4], limit=9)])
    assert wrong.confidence is not None


@settings(max_examples=20)
@given(draft=st.lists(st.integers(3, 9), max_size=30), at=st.integers(1, 30), limit=st.integers(1, 30))
def test_a_stop_ends_the_text_behind_its_token(draft: list[int], at: int, limit: int) -> None:
    """The function is told every token once and in order, and none behind its own stop or the limit."""
    told: list[int] = []

    def stops(token: int) -> bool:
        told.append(token)
        return len(told) == at

    (whole,) = decode([request([5, 6])])
    right = [*whole.tokens[:12], *draft]
    (found,) = decode([request([5, 6], right, stops=stops, limit=limit)])
    assert found.tokens == told == whole.tokens[: min(at, limit)]


def test_an_end_token_is_the_last_one() -> None:
    """A text ends with the first end token that it has, which is part of it, inside a draft that goes on too."""
    (whole,) = decode([request([5, 6])])
    for ends in (frozenset({whole.tokens[0]}), frozenset({whole.tokens[9], whole.tokens[20]}), frozenset({10**6})):
        first = next((place for place, token in enumerate(whole.tokens) if token in ends), len(whole.tokens))
        for draft in ([], whole.tokens, whole.tokens[:5]):
            (found,) = decode([request([5, 6], draft, ends=ends)])
            assert found.tokens == whole.tokens[: first + 1]


def test_no_requests_are_no_steps() -> None:
    """Nothing comes of nothing."""
    assert decode([]) == []
