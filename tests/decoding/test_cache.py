"""Laws of the cache of one row."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from aligner.decoding.cache import RowCache

LAYERS, HEADS, SIZE = 2, 2, 3
PASSES = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=8)


def new(tokens: int) -> torch.Tensor:
    """Random keys or values, [heads, tokens, size]."""
    return torch.randn(HEADS, tokens, SIZE)


@given(capacity=st.integers(0, 12), passes=PASSES)
def test_a_cache_remembers_what_was_counted_and_nothing_else(capacity: int, passes: list[tuple[int, int]]) -> None:
    """After any passes, of which any beginnings were counted, each layer reads the counted tokens and the new ones."""
    row = RowCache(capacity)
    counted = [(new(0), new(0)) for _ in range(LAYERS)]
    for tokens, kept in passes:
        row.reserve(tokens)
        for layer in range(LAYERS):
            keys, values = new(tokens), new(tokens)
            found = row.put(layer, keys, values)
            expected = tuple(torch.cat(pair, dim=1) for pair in zip(counted[layer], (keys, values), strict=True))
            assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
            kept_keys, kept_values = (part[:, : row.length + min(kept, tokens)] for part in expected)
            counted[layer] = (kept_keys, kept_values)
        row.length += min(kept, tokens)


@given(passes=PASSES)
def test_where_there_is_room_nothing_is_copied(passes: list[tuple[int, int]]) -> None:
    """A cache that was made large enough stays where it is in memory, whatever is written and taken back."""
    row = RowCache(sum(tokens for tokens, _ in passes) + 1)
    home = row.put(0, new(1), new(1))[0].data_ptr()
    for tokens, kept in passes:
        row.reserve(tokens)
        assert row.put(0, new(tokens), new(tokens))[0].data_ptr() == home
        row.length += min(kept, tokens)


def test_room_grows_by_more_than_is_asked_for() -> None:
    """A row that goes on a token at a time is copied a few times, not at every token."""
    row = RowCache(4)
    homes: set[int] = set()
    kept: list[torch.Tensor] = []  # so that no address is used twice
    for _ in range(500):
        row.reserve(1)
        kept.append(row.put(0, new(1), new(1))[0])
        homes.add(kept[-1].data_ptr())
        row.length += 1
    assert 1 < len(homes) < 20
