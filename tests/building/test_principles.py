"""Principles: what ships, what a file may say, and a hash that changes with every word."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.building.annotating import template_of
from aligner.building.principles import Principle, Principles, load, shipped
from aligner.config import BuildConfig
from aligner.errors import MisuseError
from aligner.prompts import EDITORS

LINES = st.lists(st.text(min_size=1), min_size=1, max_size=4).map(tuple)
PRINCIPLES = st.builds(Principle, name=st.text(min_size=1), version=st.integers(1, 9), text=LINES)


def test_six_sets_of_principles_ship() -> None:
    """The six that are promised ship, and each is called what its file is called."""
    assert shipped() == ("empathetic", "harmless", "helpful", "honest", "reasoning", "summary")
    assert tuple(part.name for part in load(shipped()).of) == shipped()


def test_the_default_of_a_build_loads() -> None:
    """What a build goes by unless told otherwise is there, in that order, and is shown line by line."""
    principles = load(BuildConfig().principles)
    assert [part.name for part in principles.of] == ["helpful", "harmless", "honest"]
    assert all(f"- {line}" in principles.text for part in principles.of for line in part.text)


@given(first=PRINCIPLES, second=PRINCIPLES, prompt=st.sampled_from(sorted(EDITORS)))
def test_hash_and_template_change_with_every_word(first: Principle, second: Principle, prompt: str) -> None:
    """Two principles have the same hash, and calls under them the same template, only if they are equal in all."""
    one, other = Principles((first,)), Principles((second,))
    assert (one.version_hash == other.version_hash) == (first == second)
    assert (template_of(prompt, one) == template_of(prompt, other)) == (first == second)
    assert one.version_hash == Principles((replace(first),)).version_hash


def test_each_prompt_has_a_template_of_its_own() -> None:
    """Calls with different prompts have different templates, which begin with name and version."""
    principles = load(["helpful"])
    assert len({template_of(prompt, principles) for prompt in EDITORS}) == len(EDITORS)
    assert all(template_of(prompt, principles).startswith(f"{prompt}-1-") for prompt in EDITORS)


def test_order_counts() -> None:
    """The same principles in another order are another set, as the annotator reads another text."""
    assert load(["helpful", "honest"]).version_hash != load(["honest", "helpful"]).version_hash


def test_a_file_of_ones_own_is_taken(tmp_path: Path) -> None:
    """A TOML file stands beside those that ship."""
    file = tmp_path / "polite.toml"
    file.write_text('name = "polite"\nversion = 3\ntext = ["Say please."]\n', encoding="utf-8")
    principles = load(["helpful", str(file)])
    assert principles.as_json()[1] == {"name": "polite", "version": 3, "text": ["Say please."]}


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    """A name that does not ship raises one line that names the nearest one."""
    with pytest.raises(MisuseError, match='unknown principle "harmles"; did you mean "harmless"'):
        load(["harmles"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('name = "x"\nversion = 1\ntext = []', "at least one line"),
        ('name = "x"\nversion = 1\ntext = [" "]', "must say something"),
        ('name = "x"\nversion = 0\ntext = ["a"]', "at least 1"),
        ('name = ""\nversion = 1\ntext = ["a"]', "needs a name"),
        ('name = "x"\ntext = ["a"]', 'no "version"'),
        ('name = "x"\nversion = 1\ntext = "a"', "is not"),
        ('name = "x"\nversion = 1\ntext = ["a"]\ntexts = 1', 'did you mean "text"'),
        ("name = ", "nvalid value"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    """A file that cannot be used raises one line with its name and what is wrong."""
    file = tmp_path / "own.toml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(MisuseError, match=said) as raised:
        load([str(file)])
    assert "own.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_none_and_doublets_are_misuse(tmp_path: Path) -> None:
    """No principles at all, a file that is not there, and two of one name are told."""
    for names, said in (
        ([], "no principles"),
        (["helpful", "helpful"], "name each once"),
        ([f"{tmp_path}/x.toml"], "No"),
    ):
        with pytest.raises(MisuseError, match=said):
            load(names)
