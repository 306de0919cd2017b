"""Laws of passes over rows laid end to end: positions, masks and cache lengths are those of each row alone."""

from typing import Any

import pytest
import torch
from families import DRIVEN, UNDRIVEN, VOCABULARY, WINDOW, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.decoding.cache import RowCache
from aligner.decoding.packed import ATTENTION, PackedModel, Segment, packed

TOKENS = st.lists(st.integers(3, VOCABULARY - 1), min_size=1, max_size=9)
ROWS = 3
# A pass: for some of the rows, in any order, new tokens and how many of them count; the rest is taken back.
PASS = st.lists(
    st.tuples(st.integers(0, ROWS - 1), TOKENS, st.integers(0, 9)), min_size=1, max_size=ROWS, unique_by=lambda s: s[0]
)


def read_plainly(model: Any, tokens: list[int]) -> torch.Tensor:
    """The logits of one row in one forward pass of the model's own, [tokens, vocabulary]."""
    with torch.inference_mode():
        return model(torch.tensor([tokens]), use_cache=False).logits[0]


@pytest.mark.parametrize("family", DRIVEN)
@settings(max_examples=15)
@given(passes=st.lists(PASS, min_size=1, max_size=6), capacity=st.integers(0, 40))
def test_any_interleaving_gives_the_logits_of_each_row_alone(
    family: str, passes: list[list[tuple[int, list[int], int]]], capacity: int
) -> None:
    """Rows fed in any pieces, beside any others, with any tokens taken back, read as one plain forward of each."""
    model = random_model(family)
    driven = packed(model)
    caches, rows = [RowCache(capacity) for _ in range(ROWS)], [list[int]() for _ in range(ROWS)]
    for each in passes:
        segments = [Segment(caches[row], piece) for row, piece, _ in each]
        wanted = range(sum(len(piece) for _, piece, _ in each))
        found = driven.forward(segments, wanted)(torch.tensor(list(wanted)))
        expected = [read_plainly(model, rows[row] + piece)[len(rows[row]) :] for row, piece, _ in each]
        torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-5)
        for row, piece, kept in each:
            rows[row] += piece[:kept]
            caches[row].length = len(rows[row])


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "mistral"])
@pytest.mark.parametrize("piece", [1, 2, WINDOW, WINDOW + 1, 30])
def test_a_sliding_window_slides_over_any_pieces(family: str, piece: int) -> None:
    """A row much longer than the window reads the same whether it comes at once or in pieces."""
    model = random_model(family)
    driven, cache, found = packed(model), RowCache(0), list[torch.Tensor]()
    tokens = [3 + 7 * i % (VOCABULARY - 3) for i in range(30)]
    for start in range(0, len(tokens), piece):
        part = tokens[start : start + piece]
        found.append(driven.forward([Segment(cache, part)], range(len(part)))(torch.arange(len(part))))
        cache.length += len(part)
    torch.testing.assert_close(torch.cat(found), read_plainly(model, tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", DRIVEN)
def test_some_of_the_wanted_logits_may_be_asked_for(family: str) -> None:
    """Logits are those of the numbers that are asked for, whatever else was wanted."""
    model = random_model(family)
    tokens = [[5, 6, 7, 8], [9, 10, 11]]
    wanted, asked = [1, 3, 4, 6], torch.tensor([3, 6])
    logits = packed(model).forward([Segment(RowCache(8), row) for row in tokens], wanted)
    expected = torch.stack([read_plainly(model, row)[-1] for row in tokens])
    torch.testing.assert_close(logits(asked), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", DRIVEN)
def test_the_head_stands_alone_unless_its_logits_are_changed(family: str) -> None:
    """A scale or a cap behind the head is applied, since then the model itself makes the logits."""
    assert (packed(random_model(family)).head is None) == (family in ("gemma2", "cohere"))


@pytest.mark.parametrize("family", DRIVEN)
def test_the_lengths_stay(family: str) -> None:
    """A pass counts no tokens; who makes it does."""
    cache = RowCache(0)
    packed(random_model(family)).forward([Segment(cache, [5, 6, 7])], [2])
    assert cache.length == 0


@pytest.mark.parametrize("family", [*DRIVEN, *UNDRIVEN])
def test_who_else_uses_the_model_finds_it_as_it_was(family: str) -> None:
    """The attention of a model is its own again behind a trial and behind a pass, also behind one that failed."""
    model = random_model(family)
    before, expected = model.config._attn_implementation, read_plainly(model, [5, 6, 7])  # noqa: SLF001
    assert before != ATTENTION
    if family in UNDRIVEN:
        with pytest.raises(ValueError, match=r"."):
            packed(model)
    else:
        packed(model).forward([Segment(RowCache(8), [5, 6])], [1])
        with pytest.raises(IndexError):
            packed(model).forward([Segment(RowCache(8), [VOCABULARY])], [0])
    assert model.config._attn_implementation == before  # noqa: SLF001
    assert torch.equal(read_plainly(model, [5, 6, 7]), expected)


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("bloom", r"^its logits differ when rows are laid end to end$"),
        ("mamba", r"^its logits differ when rows are laid end to end$"),
        ("dynamic", r"^its dynamic positions depend on the longest row of a pass$"),
    ],
)
def test_a_model_that_cannot_be_driven_is_refused_with_the_reason(family: str, reason: str) -> None:
    """No model is driven whose logits would differ from its own."""
    with pytest.raises(ValueError, match=reason):
        packed(random_model(family))


def test_a_model_in_half_precision_is_driven_too() -> None:
    """Rounding is no reason to refuse a model."""
    model = type(random_model("llama"))(random_model("llama").config).to(torch.bfloat16).eval()
    assert isinstance(packed(model), PackedModel)
