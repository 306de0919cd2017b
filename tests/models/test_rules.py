"""Laws of rewriting by rules."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.errors import InputFileError, MisuseError
from aligner.models import load_model
from aligner.models.rules import Rule, Rules, read_rules
from aligner.records import ChatModel, Message

POLITE = [{"pattern": r"(?i)\bshut up\b", "replace": "please wait"}, {"pattern": r"(\w+) wait", "replace": r"\1, wait"}]


async def pieces_of(model: ChatModel, text: str) -> str:
    return "".join([piece async for piece in model.stream([Message("user", text)])])


@given(st.text())
def test_no_rules_change_nothing(text: str) -> None:
    """The empty list of rules is the identity."""
    assert Rules(()).rewrite(text) == text


@given(st.lists(st.tuples(st.text(min_size=1), st.text())), st.text())
def test_rules_apply_one_after_the_other(literal: list[tuple[str, str]], text: str) -> None:
    """All rules together are each of them in turn."""
    rules = [Rule(re.compile(re.escape(old)), new.replace("\\", r"\\")) for old, new in literal]
    expected = text
    for old, new in literal:
        expected = expected.replace(old, new)
    assert Rules(tuple(rules)).rewrite(text) == expected


def test_json_and_toml_hold_the_same_rules(tmp_path: Path) -> None:
    """Both formats give the same model, which rewrites the last user message, streamed or not."""
    (tmp_path / "rules.json").write_text(json.dumps(POLITE))
    tables = (f"[[rules]]\npattern = '{rule['pattern']}'\nreplace = '{rule['replace']}'\n" for rule in POLITE)
    (tmp_path / "rules.toml").write_text("".join(tables))
    models = [load_model(f"rules:{tmp_path / name}") for name in ("rules.json", "rules.toml")]
    assert models[0] == models[1]
    answer = asyncio.run(models[0].complete([Message("user", "Shut up, you.")]))
    assert answer.text == "please, wait, you."
    assert asyncio.run(pieces_of(models[1], "Shut up, you.")) == answer.text


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("r.json", '[{"pattern": "a", "replace": "b"}, {"pattern": "(", "replace": ""}]', "rule 2: missing )"),
        ("r.json", r'[{"pattern": "a", "replace": "\\1"}]', "rule 1: invalid group reference 1"),
        ("r.json", r'[{"pattern": "a", "replace": "\\g<x>"}]', "rule 1: unknown group name 'x'"),
        ("r.json", '[{"pattern": "a"}]', 'rule 1: needs the texts "pattern" and "replace"'),
        ("r.json", '[{"pattern": "a", "replace": 1}]', "rule 1: needs the texts"),
        ("r.json", '[{"pattern": "a", "replace": "b", "flags": "i"}]', "rule 1: needs the texts"),
        ("r.json", '["a"]', "rule 1: needs the texts"),
        ("r.json", "{}", "does not hold a list"),
        ("r.json", "[", "unexpected end of data"),
        ("r.json", "[" * 10**5, "depth limit"),
        ("r.toml", "pattern = 1", "does not hold [[rules]] tables"),
        ("r.toml", "[[rules", "expected ']]'"),
        ("r.json", b"\xff", "utf-8"),
        ("r.json", r'[{"pattern": "a", "replace": "\ud800"}]', "surrogate"),
        ("r.toml", b"\xff", "utf-8"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, name: str, content: str | bytes, problem: str) -> None:
    """The error names the file, and the rule by its number."""
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputFileError) as caught:
        read_rules(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert problem.lower() in line.lower()
    assert "\n" not in line


@pytest.mark.parametrize(("name", "problem"), [("none.json", "no such file"), ("", "cannot be read: Is a directory")])
def test_a_file_that_cannot_be_read_is_misuse(tmp_path: Path, name: str, problem: str) -> None:
    """A wrong path is told in one line."""
    with pytest.raises(MisuseError, match=problem):
        load_model(f"rules:{tmp_path / name}")
