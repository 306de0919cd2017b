"""Laws of batches: every row is in one, whole, and bears its own weights."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from aligner.training.collating import collate
from aligner.training.encode import EncodedRow


def _row(ids: list[int], prompt: int) -> EncodedRow:
    prompt = min(prompt, len(ids) - 1)
    return EncodedRow(tuple(ids), prompt, tuple(float(i) for i in ids[prompt:]) if len(ids) % 2 else ())


_ROWS = st.lists(
    st.builds(_row, st.lists(st.integers(1, 50), min_size=2, max_size=30), st.integers(1, 30)), min_size=1, max_size=20
)


def _told(row: EncodedRow) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The ids of a row, and a weight for each."""
    learnt = row.weights or (1.0,) * (len(row.ids) - row.prompt_length)
    return row.ids, (*(0.0,) * row.prompt_length, *learnt)


@given(_ROWS)
def test_padding_bears_no_loss(rows: list[EncodedRow]) -> None:
    """A batch holds each row from its first column on, and what is behind it has no weight."""
    batch = collate(rows, pad_id=99)
    assert set(batch) == {"input_ids", "weights"}
    for row, ids, weights in zip(rows, batch["input_ids"].tolist(), batch["weights"].tolist(), strict=True):
        size = len(row.ids)
        assert (tuple(ids[:size]), tuple(weights[:size])) == _told(row)
        assert set(ids[size:]) <= {99}
        assert set(weights[size:]) <= {0.0}


@given(_ROWS)
def test_packing_moves_rows_and_loses_none(rows: list[EncodedRow]) -> None:
    """Cut where positions begin anew, the lines are the rows; none is longer than the longest row alone would be."""
    batch = collate(rows, pad_id=99, packed=True)
    width = batch["input_ids"].shape[1]
    assert width == max(len(row.ids) for row in rows)
    assert len(batch["input_ids"]) <= len(rows)
    found: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    positions = batch["position_ids"].tolist() if "position_ids" in batch else [[*range(width)]] * len(rows)
    for ids, weights, places in zip(batch["input_ids"].tolist(), batch["weights"].tolist(), positions, strict=True):
        starts = [i for i, place in enumerate(places) if place == 0]
        for start, end in zip(starts, [*starts[1:], width], strict=True):
            size = sum(i != 99 for i in ids[start:end])
            found.append((tuple(ids[start : start + size]), tuple(weights[start : start + size])))
    assert Counter(found) == Counter(map(_told, rows))


def test_a_batch_without_rows_bears_no_loss() -> None:
    """What a process gets that has nothing left to read has a shape, and no weight."""
    batch = collate([], pad_id=0)
    assert batch["input_ids"].shape == batch["weights"].shape == (1, 2)
    assert not batch["weights"].any()
