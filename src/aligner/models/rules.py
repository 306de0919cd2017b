"""Rewriting by regular expressions: a model that is right, or wrong, by construction."""

import re
import tomllib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import orjson

from aligner.errors import InputFileError, MisuseError
from aligner.models.echo import last_user_text
from aligner.models.pieces import words
from aligner.records import Completion, Message, SamplingParams


class Rule(NamedTuple):
    """Replace every match of a pattern; the replacement may name groups, as in `re.sub`."""

    pattern: re.Pattern[str]
    replace: str


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules that are applied one after the other."""

    rules: tuple[Rule, ...]

    def rewrite(self, text: str) -> str:
        """The text after all rules."""
        for pattern, replace in self.rules:
            text = pattern.sub(replace, text)
        return text


@dataclass(frozen=True, slots=True)
class RulesModel:
    """Answers with the last user message, rewritten, whatever the sampling."""

    rules: Rules

    async def complete(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = SamplingParams(),
        *,
        prediction: str | None = None,
    ) -> Completion:
        """The last user message, rewritten; ModelError when there is none."""
        return Completion(self.rules.rewrite(last_user_text(messages)))

    async def stream(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = SamplingParams(),
        *,
        prediction: str | None = None,
    ) -> AsyncIterator[str]:
        """The same, word by word."""
        for word in words(self.rules.rewrite(last_user_text(messages))):
            yield word


def load(name: str) -> RulesModel:
    """The model `rules:FILE`."""
    return RulesModel(read_rules(Path(name)))


def read_rules(path: Path) -> Rules:
    """The rules of a file: JSON `[{"pattern": …, "replace": …}, …]`, or TOML with one `[[rules]]` table for each.

    Raises MisuseError for a file that cannot be read, and InputFileError for a bad rule, by its number from 1.
    """
    rows = _read_list(path)
    return Rules(tuple(_rule(path, number, row) for number, row in enumerate(rows, 1)))


def _read_list(path: Path) -> list[object]:
    toml = path.suffix == ".toml"
    try:
        text = path.read_text(encoding="utf-8")
        content: object = tomllib.loads(text).get("rules") if toml else orjson.loads(text)
    except OSError as error:
        problem = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise MisuseError(f"{path}: {problem}") from error
    except ValueError as error:  # JSON, TOML and UTF-8 errors alike
        raise InputFileError(f"{path}: {error}") from error
    if not isinstance(content, list):
        wanted = "[[rules]] tables" if toml else 'a list of {"pattern": …, "replace": …}'
        raise InputFileError(f"{path}: does not hold {wanted}")
    return cast("list[object]", content)


def _rule(path: Path, number: int, row: object) -> Rule:
    fields = cast("dict[str, object]", row) if isinstance(row, dict) else {}
    pattern, replace = fields.get("pattern"), fields.get("replace")
    if not isinstance(pattern, str) or not isinstance(replace, str) or len(fields) != 2:
        raise InputFileError(f'{path}: rule {number}: needs the texts "pattern" and "replace", and nothing else')
    try:
        compiled = re.compile(pattern)
        compiled.sub(replace, "")  # checks the groups that the replacement names
    except (re.error, IndexError, RecursionError, OverflowError) as error:
        raise InputFileError(f"{path}: rule {number}: {error}") from error
    return Rule(compiled, replace)
