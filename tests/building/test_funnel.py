"""The funnel: every row is accounted for, by a count and in a picture."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from counted_build import STEPS, built, config_of
from hypothesis import given
from hypothesis import strategies as st

from aligner.building import funnel
from aligner.building.funnel_chart import chart
from aligner.building.nouns import Dropped, Step
from aligner.errors import InputFileError

_COUNT = st.integers(0, 10**9)
_NAME = st.text(min_size=1)


@st.composite
def _steps(draw: st.DrawFn) -> list[Step]:
    found: list[Step] = []
    for name in draw(st.lists(_NAME, max_size=6)):
        left, dropped = draw(_COUNT), draw(st.dictionaries(_NAME, _COUNT, max_size=8))
        found.append(Step(name, left + sum(dropped.values()), left, dropped))
    return found


def test_funnel_accounts_for_every_row(tmp_path: Path) -> None:
    """Each step has as many rows as were put into the store, and those that went no further with their reasons."""
    with built(tmp_path) as build:
        found = funnel.exported(funnel.steps(config_of(tmp_path), build.store), 12)
    assert {step.name: (step.came, step.left, dict(step.dropped)) for step in found} == STEPS
    for step in found:
        assert step.came == step.left + sum(step.dropped.values())


def test_steps_follow_one_another(tmp_path: Path) -> None:
    """From the answers on a step begins with the rows that the one before it left."""
    with built(tmp_path) as build:
        _, answers, corrections, verdicts = funnel.steps(config_of(tmp_path), build.store)
    assert answers.left == corrections.came
    assert corrections.left == verdicts.came


@pytest.mark.parametrize("rows", [11, 13])
def test_missing_rows_are_no_data_set(tmp_path: Path, rows: int) -> None:
    """Where fewer or more rows were written than were checked, the funnel says so and there is no data set."""
    with built(tmp_path) as build, pytest.raises(InputFileError, match="does not add up"):
        funnel.exported(funnel.steps(config_of(tmp_path), build.store), rows)


def test_more_drops_than_rows(tmp_path: Path) -> None:
    """A store in which more rows were dropped than there were is refused."""
    with built(tmp_path) as build:
        build.store.drop(Dropped("verdicts", f"stray {number}", "no_reason") for number in range(9))
        with pytest.raises(InputFileError, match="verdicts"):
            funnel.steps(config_of(tmp_path), build.store)


@given(_steps())
def test_picture_is_xml_and_the_same_each_time(steps: list[Step]) -> None:
    """Whatever stages and reasons are called, the picture is well formed, runs no code, and is the same again."""
    picture = chart(steps)
    assert picture == chart(steps)
    kinds = {element.tag.rpartition("}")[2] for element in ET.fromstring(picture).iter()}  # noqa: S314  # our own
    assert kinds <= {"svg", "title", "style", "text", "rect"}


def test_picture_tells_the_counts(tmp_path: Path) -> None:
    """The picture has what came, what went on and why the rest did not, and bars as long as their share."""
    with built(tmp_path) as build:
        root = ET.fromstring(chart(funnel.steps(config_of(tmp_path), build.store)))  # noqa: S314  # our own
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"rows read", "14", "10 go on", "same_question 2 · too_short 2", "refused 2 · open 1"} <= set(texts)
    bars = [(bar.get("class"), float(bar.get("width") or 0)) for bar in root.iter() if bar.tag.endswith("rect")]
    assert bars[2:5] == [("left", 476.0), ("dropped", 56.0), ("open", 28.0)]
