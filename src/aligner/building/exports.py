"""The same triples as other trainers want them: TRL, KTO, Axolotl and LLaMA-Factory.

What trains an Aligner (`trl`, `axolotl`, `llama-factory`) has the correction prompt of the template and the correction.
Preferences (`trl-preference`, `kto`) have the question itself, and train any model to answer like the correction.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aligner.building.nouns import Checked, Split
from aligner.building.shards_out import Lines
from aligner.config.building import ExportFormat
from aligner.files import write_json_atomic, write_text_atomic
from aligner.records import Question, as_messages
from aligner.templates import Template

Rows = Iterator[dict[str, Any]]
_SLOT = re.compile(r"\{(question|answer)\}")
_PROMPTED: Mapping[str, tuple[str, str]] = {
    "trl": ("prompt", "completion"),
    "axolotl": ("instruction", "output"),
    "llama-factory": ("instruction", "output"),
}
"""what prompt and correction are called where both are texts"""
_AXOLOTL_TEXT = """\
datasets:
  - path: {path}
    ds_type: json
    type:
      system_prompt: ""
      field_instruction: instruction
      field_output: output
      format: "{{instruction}}"
      no_input_format: "{{instruction}}"
train_on_inputs: false
"""
_AXOLOTL_CHAT = """\
datasets:
  - path: {path}
    ds_type: json
    type: chat_template
    field_messages: messages
    roles_to_train: ["assistant"]
train_on_inputs: false
"""


def prompt_text(template: Template, question: Question, answer: str) -> str:
    """The correction prompt as text, for trainers that read text; `chat` has the user's message alone.

    Whatever reads text takes every control token in it for one: so a control token of the template's own that stands
    in question or answer gets a backslash behind its first letter, and forges nothing.
    """
    filled = {"question": _question_text(template, question), "answer": plain(template, answer)}
    return _SLOT.sub(lambda slot: filled[slot[1]], template.text)


def plain(template: Template, text: str) -> str:
    """A text without the control tokens of the template."""
    for token in template.controls:
        text = text.replace(token, f"{token[0]}\\{token[1:]}")
    return text


def rows_for(name: ExportFormat, template: Template, checked: Checked) -> Rows:
    """The rows that a triple makes in a format; a pair of preference is made of an edit alone."""
    return _FORMATS[name](template, checked)


class Export:
    """The files of one format: NAME.jsonl for training, NAME-validation.jsonl and NAME-test.jsonl beside it."""

    def __init__(self, folder: Path, name: ExportFormat, template: Template) -> None:
        self._folder, self._template = folder, template
        self._name: ExportFormat = name
        self._written: dict[Split, Lines] = {"train": Lines(folder / f"{name}.jsonl")}

    def add(self, checked: Checked) -> None:
        """Write what a triple makes."""
        for row in rows_for(self._name, self._template, checked):
            if checked.split not in self._written:
                self._written[checked.split] = Lines(self._folder / f"{self._name}-{checked.split}.jsonl")
            self._written[checked.split].add(row)

    def close(self) -> None:
        """Wait until the disk has all rows."""
        for lines in self._written.values():
            lines.close()

    def finish(self) -> Mapping[str, int]:
        """Close the files and write what tells the trainer how to read them; the rows of each file."""
        self.close()
        names: dict[Split, str] = {split: lines.path.name for split, lines in self._written.items()}
        if self._name == "axolotl":
            told = _AXOLOTL_CHAT if self._template.system else _AXOLOTL_TEXT
            write_text_atomic(self._folder / "axolotl.yml", told.format(path=names["train"]))
        if self._name == "llama-factory":
            write_json_atomic(self._folder / "dataset_info.json", _dataset_info(names, system=self._template.system))
        return {lines.path.name: lines.rows for lines in self._written.values()}


def _dataset_info(names: Mapping[Split, str], *, system: str) -> dict[str, Any]:
    """How LLaMA-Factory knows a file: by a name, with its columns; the prompt is whole, so there is no input."""
    columns = {"prompt": "instruction", "response": "output", **({"system": "system"} if system else {})}
    return {f"aligner_{split}": {"file_name": name, "columns": columns} for split, name in names.items()}


def _question_text(template: Template, question: Question) -> str:
    if isinstance(question, str):
        return plain(template, question)
    turns = ((template.turn.replace("{role}", turn.role), plain(template, turn.content)) for turn in question)
    return "".join(said.join(turn.split("{content}")) for turn, said in turns)


def _prompted(name: str, template: Template, checked: Checked) -> Rows:
    prompt = prompt_text(template, checked.question, checked.answer)
    correction = plain(template, checked.correction)
    first, second = _PROMPTED[name]
    yield {first: prompt, second: correction}


def _trl(template: Template, checked: Checked) -> Rows:
    for row in _prompted("trl", template, checked):
        yield _chat(template, row["prompt"], row["completion"]) if template.system else row


def _axolotl(template: Template, checked: Checked) -> Rows:
    for row in _prompted("axolotl", template, checked):
        turns = _chat(template, row["instruction"], row["output"])
        yield {"messages": [*turns["prompt"], *turns["completion"]]} if template.system else row


def _llama_factory(template: Template, checked: Checked) -> Rows:
    for row in _prompted("llama-factory", template, checked):
        yield {**({"system": template.system} if template.system else {}), **row}


def _preference(_: Template, checked: Checked) -> Rows:
    if checked.kind == "edit":
        yield {
            "prompt": _turns(checked.question),
            "chosen": [_said(checked.correction)],
            "rejected": [_said(checked.answer)],
        }


def _kto(_: Template, checked: Checked) -> Rows:
    prompt = _turns(checked.question)
    if checked.kind == "edit":
        yield {"prompt": prompt, "completion": [_said(checked.answer)], "label": False}
    yield {"prompt": prompt, "completion": [_said(checked.correction)], "label": True}


def _chat(template: Template, prompt: str, correction: str) -> dict[str, list[dict[str, str]]]:
    system, user = {"role": "system", "content": template.system}, {"role": "user", "content": prompt}
    return {"prompt": [system, user], "completion": [_said(correction)]}


def _turns(question: Question) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in as_messages(question)]


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


_FORMATS: Mapping[ExportFormat, Callable[[Template, Checked], Rows]] = {
    "trl": _trl,
    "trl-preference": _preference,
    "kto": _kto,
    "axolotl": _axolotl,
    "llama-factory": _llama_factory,
}
