"""Laws of a checkpoint's README."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aligner.records import Correction, Triple
from aligner.templates import TEMPLATES
from aligner.training.card import Card
from aligner.training.measuring import TokenLoss, asked, count, standard_named
from aligner.training.model_card import model_card, plain, renew_model_card, save_model_card, without_places

_CARD = Card(
    template=TEMPLATES["sealed"],
    base="new",
    weights="0" * 64,
    data={"rows": 3, "sha256": "abc"},
    training={"seed": 1, "instruction": "", "correction": {"betas": [0.9, 0.95]}},
    measured={},
    packages={"torch": "2.13.0"},
)
_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
_HOSTILE = st.text(st.sampled_from("ab `|\\\n\r\t#-<>&[]()*_!:{}'\"") | st.characters(codec="utf-8"), max_size=30)


def measured_card(*, base: str = "new", source: str = "", instruction: str = "", stage: str = "correction") -> Card:
    """A card whose figures are of three rows."""
    rows = [Triple("?", "a", "b", ("", source, "")), Triple("?", "b", "b", ("", "other", "")), Triple("?", "a", "c")]
    made = [Correction(exchange=asked(row), text="b") for row in rows]
    found = count(rows, made, standard_named("exact"), losses=[TokenLoss(1.0, 2, 1.0, 4)] * 3)
    return replace(
        _CARD,
        base=base,
        training={**_CARD.training, "instruction": instruction},
        stages=[{"stage": stage, "key": "1", "parent": "0", "steps": 7}],
        measured={"by": "exact", "held_out": 3, **found.figures()},
    )


def header(text: str) -> dict[str, Any]:
    """What the Hub reads."""
    _, found, _ = text.split("---\n", 2)
    return yaml.safe_load(found)


@given(base=_HOSTILE, source=_HOSTILE, instruction=_HOSTILE, stage=_HOSTILE)
def test_no_text_breaks_out(base: str, source: str, instruction: str, stage: str) -> None:
    """Whatever names and settings hold, the header has its own keys, and the text its own headings, tables and code."""
    hostile = model_card(measured_card(base=base, source=source, instruction=instruction, stage=stage))
    harmless = model_card(measured_card(base="folder", source="source", instruction="told"))
    assert header(hostile).keys() - {"base_model"} == header(harmless).keys()
    shapes = [_shape(text.split("---\n", 2)[2]) for text in (hostile, harmless)]
    # A row without a source adds no table of sources, and a row with one does.
    assert shapes[0] == shapes[1] or not source


@given(_HOSTILE)
def test_a_name_is_shown_as_it_is(text: str) -> None:
    """It is one piece of code with the letters of the name, but for white space, control characters and bars."""
    (line,) = [token for token in _MARKDOWN.parse(f"x {plain(text)}") if token.type == "inline"]
    assert line.children is not None
    assert [token.type for token in line.children] == ["text", "code_inline"]
    if text.isalnum():
        assert line.children[1].content == text


def test_the_figures_stand_with_their_intervals() -> None:
    """The README has the counts, rates, intervals and settings of the card, and is the same each time."""
    text = model_card(measured_card(source="an upstream"))
    assert "| flawed answers fixed | 50.0 % | 9.5 % to 90.5 % | 1 of 2 |" in text
    assert "| good answers broken | 0.0 % | 0.0 % to 79.3 % | 0 of 1 |" in text
    assert "| `an upstream` | 1 of 1 [20.7 %, 100.0 %] |" in text
    assert "letter for letter" in text
    assert "| `correction` | `7` |" in text
    assert "seed = 1\n" in text
    assert text == model_card(measured_card(source="an upstream"))


@pytest.mark.parametrize(
    ("base", "on_hub"),
    [("org/name-1.5B", "org/name-1.5B"), ("new", None), ("/home/me/secret/name", None), ("a/b/c", None)],
)
def test_the_base_is_linked_where_it_is_on_the_hub(base: str, on_hub: str | None) -> None:
    """A folder of one machine is told by its last name alone."""
    text = model_card(measured_card(base=base))
    assert header(text).get("base_model") == on_hub
    assert header(text)["library_name"] == "transformers"
    assert "secret" not in text


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        ("exact", "exact"),
        ("world:", "world:"),
        ("truth:/home/me/secret/judge", "truth:judge"),
        ("reward:/home/me/secret/judge?quality=harmless", "reward:judge?quality=harmless"),
        ("openai:org/model@https://me:secret@host/v1", "openai:org/model"),
        ("published:hf:secret/of/me/judge", "published:hf:judge"),
    ],
)
def test_settings_hold_no_place_of_one_machine(judge: str, told: str) -> None:
    """Base and judge are named without folders, addresses and passwords, in the README of older cards too."""
    training = {"base": "/home/me/secret/name", "on_policy": {"judge": judge, "rounds": 1}, "seed": 1}
    reduced = {"base": "name", "on_policy": {"judge": told, "rounds": 1}, "seed": 1}
    assert without_places(training) == without_places(reduced) == reduced
    text = model_card(replace(measured_card(), training=training))
    assert f'judge = "{told}"' in text
    assert "secret" not in text
    assert without_places({"base": "org/name"}) == {"base": "org/name"}


@pytest.mark.parametrize(
    ("settings", "stage", "told"),
    [
        ({"measure": {"keep": "best"}}, "correction", "decided which weights are kept, so"),
        ({"identity": {"check_every": 50}}, "identity", "decided when copying was learnt, so"),
        ({"identity": {"check_every": 50}, "measure": {"keep": "last"}}, "correction", ""),
        ({"identity": {"check_every": 0}}, "identity", ""),
    ],
)
def test_rows_that_also_chose_are_said_to_have(settings: dict[str, Any], stage: str, told: str) -> None:
    """Under the rates stands what the held-out rows decided, where they decided anything."""
    text = model_card(replace(measured_card(stage=stage), training=settings))
    assert told in text if told else "These rows also decided" not in text


def test_a_card_without_figures_has_a_readme(tmp_path: Path) -> None:
    """Cards of older checkpoints know less."""
    save_model_card(tmp_path, replace(_CARD, measured={"held_out": 200, "copied": 0.5}))
    assert "On 200 rows" in (tmp_path / "README.md").read_text()


def test_an_edited_readme_stays(tmp_path: Path) -> None:
    """With a new gate the README changes, whatever gate it told of, unless somebody wrote in it or removed it."""
    before, after = measured_card(), replace(measured_card(), gate={"threshold": 0.7, "good": 5, "flawed": 4})
    path = tmp_path / "README.md"
    renew_model_card(tmp_path, after)
    assert not path.exists()
    for old in (before, replace(before, gate=None), replace(before, gate={"threshold": 0.2}), after):
        save_model_card(tmp_path, old)
        renew_model_card(tmp_path, after)
        assert path.read_text() == model_card(after)
    for edited in ("Mine.", model_card(after).replace("## Licence", "## My licence"), "\x80"):
        path.write_bytes(edited.encode("latin-1"))
        renew_model_card(tmp_path, before)
        assert path.read_bytes() == edited.encode("latin-1")


def _shape(text: str) -> list[tuple[str, str]]:
    """The kinds of all blocks, and the text of headings."""
    tokens = _MARKDOWN.parse(text)
    inline = [(child.type, "") for token in tokens for child in token.children or [] if child.type != "text"]
    headings = [b.content for a, b in pairwise(tokens) if a.type == "heading_open"]
    return (
        [(token.type, token.info) for token in tokens if token.type != "fence"] + inline + [("", h) for h in headings]
    )
