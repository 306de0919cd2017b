"""Laws of what a pass costs."""

from itertools import pairwise
from pathlib import Path

import pytest
from families import CONTEXT, DRIVEN, random_model
from hypothesis import given
from hypothesis import strategies as st

from aligner.decoding.costs import SIZES, Costs, costs_of, measure
from aligner.decoding.packed import packed

TABLES = st.lists(st.tuples(st.integers(1, 500), st.floats(1e-4, 10)), min_size=1, max_size=9, unique_by=lambda r: r[0])


def table_of(rows: list[tuple[int, float]]) -> Costs:
    """Costs that do not fall, at growing sizes."""
    return Costs(sorted(size for size, _ in rows), sorted(seconds for _, seconds in rows))


@given(rows=TABLES)
def test_costs_are_exact_at_the_measured_sizes(rows: list[tuple[int, float]]) -> None:
    """What was measured is what is told."""
    costs = table_of(rows)
    assert [costs(size) for size in costs.sizes] == pytest.approx(list(costs.seconds))


@given(rows=TABLES, tokens=st.lists(st.floats(1, 1000), min_size=2))
def test_a_bigger_pass_is_no_cheaper(rows: list[tuple[int, float]], tokens: list[float]) -> None:
    """Between the sizes and behind the last one costs do not fall."""
    costs = table_of(rows)
    assert all(costs(more) >= costs(less) - 1e-9 for less, more in pairwise(sorted(tokens)) if less >= costs.sizes[0])


@pytest.mark.parametrize("family", DRIVEN)
def test_measured_costs_are_times_that_do_not_fall(family: str) -> None:
    """Every size that fits the context is timed, and none that does not."""
    costs = measure(packed(random_model(family)))
    assert list(costs.sizes) == [size for size in SIZES if size <= CONTEXT]
    assert costs.seconds[0] > 0
    assert list(costs.seconds) == sorted(costs.seconds)


def test_a_slow_model_is_timed_at_two_sizes_at_least() -> None:
    """Where the time is over at once, there is still a line."""
    assert list(measure(packed(random_model("llama")), seconds=0).sizes) == [1, 2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what is kept on disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_costs_are_kept_on_disk_and_read_back(home: Path) -> None:
    """A second start measures nothing, and another kind of model has costs of its own."""
    model = packed(random_model("llama"))
    costs = costs_of(model)
    (kept,) = (home / "aligner" / "costs").iterdir()
    again = costs_of(model)
    assert (list(again.sizes), list(again.seconds)) == (list(costs.sizes), list(costs.seconds))
    kept.write_text('{"sizes": [1, 2], "seconds": [3.0, 4.0]}\n')
    assert costs_of(model)(1.5) == 3.5
    costs_of(packed(random_model("gpt2")))
    assert len(list(kept.parent.iterdir())) == 2


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff{",
        b"[]",
        b"7",
        b"{}",
        b'{"sizes": [1, 2]}',
        b'{"sizes": [], "seconds": []}',
        b'{"sizes": 1, "seconds": 2}',
        b'{"sizes": [1, 2], "seconds": [0.1]}',
        b'{"sizes": ["a", "b"], "seconds": ["c", "d"]}',
        b'{"sizes": [1, 2], "seconds": [0, 0]}',
    ],
)
def test_a_damaged_file_is_measured_anew(home: Path, text: bytes) -> None:
    """Whatever is in the file, costs are positive seconds for sizes; and the file is whole again."""
    model = packed(random_model("llama"))
    costs_of(model)
    (kept,) = (home / "aligner" / "costs").iterdir()
    kept.write_bytes(text)
    costs = costs_of(model)
    assert list(costs.sizes) == [size for size in SIZES if size <= CONTEXT]
    assert costs(1) > 0
    assert list(costs_of(model).seconds) == list(costs.seconds)


def test_a_home_that_cannot_be_written_does_not_matter(home: Path) -> None:
    """Costs are then measured at every start."""
    home.write_text("a file, and no folder")
    assert costs_of(packed(random_model("llama")))(1) > 0
    assert home.read_text() == "a file, and no folder"
