"""`README.md` of a checkpoint, from its `aligner.json`: what it is, what it comes from, what was measured, what not."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from aligner.errors import visible
from aligner.files import write_text_atomic
from aligner.training.card import Card

README = "README.md"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_ADDRESS = re.compile(r"@https?://.*")
_GATE = re.compile(r"\n\n\| gate \| on [\d,]+ good and [\d,]+ flawed answers \|(\n\|[^\n]*)+")
"""its table, wherever it stands"""
_LONGEST = 200
"""characters that are shown of a name"""
_RATES = (
    ("flawed answers fixed", "fix_rate", "fixed", "flawed"),
    ("flawed answers returned unchanged", "unchanged_rate", "unchanged", "flawed"),
    ("good answers broken", "break_rate", "broken", "good"),
    ("good answers returned byte for byte", "copy_rate", "kept", "good"),
)
_STANDARDS = {
    "exact": "A good answer is the correction that its row holds, letter for letter. "
    "This is strict: a good correction in other words counts as flawed.",
    "world": "Good is what the oracle of the closed world says is helpful, harmless and honest. "
    "The closed world stands in for no result on real questions.",
}


def save_model_card(folder: Path, card: Card) -> None:
    """Write the README of a checkpoint."""
    write_text_atomic(folder / README, model_card(card))


def renew_model_card(folder: Path, card: Card) -> None:
    """Write the README anew for a card with another gate, but leave alone one that is missing, or was edited.

    Whatever gate it tells of, it is ours where all else is as we write it.
    """
    path = folder / README
    if path.exists() and _GATE.sub("", path.read_text(encoding="utf-8", errors="replace")) == _GATE.sub(
        "", model_card(card)
    ):
        save_model_card(folder, card)


def model_card(card: Card) -> str:
    """The README as Markdown with the header that the Hub reads; the same card gives the same text."""
    parts = (_header(card), _INTRODUCTION, _about(card), _recipe(card), _measured(card), _NOT_MEASURED, _USE, _RIGHTS)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def plain(text: object) -> str:
    """Any text as code in a line of Markdown or a cell of a table: nothing in it is markup, and it has no line end.

    A bar, which would part two cells whatever stands before it, is shown as one that does not; long texts are cut.
    """
    line = " ".join(visible(str(text)).split()).replace("|", "\N{BOX DRAWINGS LIGHT VERTICAL}")
    shown = (line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…") or " "
    fence = _fence(shown, 1)
    # A blank on both sides is no part of the code, and parts the fence from ticks at its ends.
    return f"{fence} {shown} {fence}" if "`" in shown else f"`{shown}`"


def without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A training configuration that names models and judges without folders and addresses of one machine."""
    told = dict(settings)
    if "base" in told:
        told["base"] = _named(told["base"])
    if "judge" in told.get("on_policy", {}):
        told["on_policy"] = {**told["on_policy"], "judge": _judge(told["on_policy"]["judge"])}
    return told


def _judge(name: str) -> str:
    """A judge without the folder of its model, or the address, which may hold a password."""
    kind, colon, rest = name.partition(":")
    if kind in ("ours", "published"):
        return f"{kind}{colon}{_judge(rest)}"
    where, mark, options = _ADDRESS.sub("", rest).partition("?")
    return f"{kind}{colon}{_named(where)}{mark}{options}"


def _named(model: str) -> str:
    """Of a folder its last name; a hub id, and any other name, as it is."""
    return model if _is_on_hub(model) else Path(model).name


_INTRODUCTION = """
# An Aligner

A corrector: it reads a question and the answer that some model gave to it, and writes a better answer.
What is good it copies, and what is flawed it changes.
The method is *Aligner: Efficient Alignment by Learning to Correct* (Ji et al., 2024).
"""

_NOT_MEASURED = """
## What was not measured

- Answers to questions of another kind than those that were held out, and of models that are not named above.
- Whether people, or a judge that sees both texts, prefer the corrections: `aligner evaluate` asks that.
- What it does to text that was written to mislead it.
"""

_USE = """
## How to use it

```python
from aligner import Aligner

aligner = Aligner.from_pretrained("FOLDER_OR_HUB_ID")
print(aligner.correct("a question", "an answer").text)
```

It is a plain causal language model as well; its prompt is the template in `aligner.json`, which only
`pip install aligner-llm` builds such that no text of a question or an answer becomes a control token.
"""

_RIGHTS = """
## Licence

The training does not know under which licences the base model and the data stand, so none is given here.
Look them up before you pass these weights on.
"""


def _header(card: Card) -> str:
    """The YAML between two rules, written by the Hub's own library, so that no value can be more than a value."""
    from huggingface_hub import ModelCardData

    base = card.base if _is_on_hub(card.base) else None
    data = ModelCardData(
        base_model=base,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["aligner", "alignment", "answer-correction"],
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def _about(card: Card) -> str:
    rows = [
        ("base model", _base(card.base)),
        ("prompt template", f"{plain(card.template.name)}, version {card.template.version}"),
        ("weights, SHA-256", plain(card.weights)),
        *((f"data, {name}", plain(value)) for name, value in sorted(card.data.items())),
        *((f"version of {name}", plain(value)) for name, value in sorted(card.packages.items())),
    ]
    return _table(("", ""), rows)


def _base(base: str) -> str:
    if base == "new":
        return "none: made from nothing"
    return plain(base) if _is_on_hub(base) else f"{plain(_named(base))}, a folder of whoever trained it"


def _fence(text: str, least: int) -> str:
    """More ticks than stand behind one another anywhere in the text, so that it cannot end its own block."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def _is_on_hub(base: str) -> bool:
    return bool(_HUB_ID.fullmatch(base)) and not Path(base).exists()


def _recipe(card: Card) -> str:
    stages = [(plain(stage.get("stage", "")), plain(stage.get("steps", ""))) for stage in card.stages]
    settings = visible(tomli_w.dumps(without_places(card.training)))
    fence = _fence(settings, 3)
    told = _table(("stage", "steps"), stages) if stages else ""
    return f"## How it was trained\n\n{told}\n\n{fence}toml\n{settings}{fence}"


def _measured(card: Card) -> str:
    found = card.measured
    parts = [
        "## What was measured",
        f"On {found.get('held_out', 0):,} rows that were held out: no question of theirs was trained on.",
        _STANDARDS.get(found.get("by", ""), ""),
        _rates(found),
        _also_chosen(card) if found.get("held_out") else "",
        _details(found),
        _groups("Answers of", found.get("by_source", {})),
        _groups("Quality", found.get("by_quality", {})),
        _gate(card.gate or {}),
    ]
    return "\n\n".join(filter(None, parts))


def _rates(found: Mapping[str, Any]) -> str:
    rows = [
        (name, _percent(rate[0]), f"{_percent(rate[1])} to {_percent(rate[2])}", f"{found[hits]:,} of {found[total]:,}")
        for name, key, hits, total in _RATES
        if (rate := found.get(key))
    ]
    return _table(("on held-out rows", "share", "95 % interval (Wilson)", "rows"), rows) if rows else ""


def _also_chosen(card: Card) -> str:
    """Whether the rows are quite as new to the model as it seems."""
    identity, begun = card.training.get("identity", {}), {stage.get("stage") for stage in card.stages}
    chose = [
        *(["when copying was learnt"] if "identity" in begun and identity.get("check_every") else []),
        *(["which weights are kept"] if card.training.get("measure", {}).get("keep") == "best" else []),
    ]
    return f"These rows also decided {' and '.join(chose)}, so the figures may be too good." if chose else ""


def _details(found: Mapping[str, Any]) -> str:
    """What is no share of rows."""
    rows = [
        ("characters changed, all rows", _percent(found.get("edit_share"))),
        ("characters changed, changed rows", _percent(found.get("edit_share_of_changed"))),
        ("corrections cut off, and thrown away", str(found.get("truncated", ""))),
        ("loss of edited tokens, nats", _number(found.get("loss_edited"))),
        ("loss of copied tokens, nats", _number(found.get("loss_copied"))),
    ]
    told = [(name, value) for name, value in rows if value]
    return _table(("", "on held-out rows"), told) if told else ""


def _groups(kind: str, groups: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (
            plain(name),
            *(_share(one, key, hits, total) for _, key, hits, total in _RATES if key != "unchanged_rate"),
            _number(one.get("loss_edited")),
        )
        for name, one in sorted(groups.items())
    ]
    return _table((kind, "fixed", "broken", "copied", "loss of edited tokens"), rows) if rows else ""


def _gate(gate: Mapping[str, Any]) -> str:
    if gate.get("threshold") is None:
        return ""
    rows = [
        ("probability that no change is needed, from which an answer is left alone", _number(gate["threshold"])),
        ("flawed answers that pass", _percent(gate.get("let_through"))),
        ("good answers that do not pass", _percent(gate.get("needless"))),
        ("expected calibration error", _number(gate.get("ece"))),
    ]
    return _table(("gate", f"on {gate.get('good', 0):,} good and {gate.get('flawed', 0):,} flawed answers"), rows)


def _share(found: Mapping[str, Any], key: str, hits: str, total: str) -> str:
    rate = found.get(key)
    if not rate:
        return ""
    return f"{found[hits]:,} of {found[total]:,} [{_percent(rate[1])}, {_percent(rate[2])}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
