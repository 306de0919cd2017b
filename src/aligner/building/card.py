"""`README.md` of a data set, from its manifest: what the rows are, what they come from, what was measured, what not."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aligner.building.funnel_chart import reasons, title
from aligner.building.nouns import Step
from aligner.training.model_card import plain

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGER = ((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"))
_LICENCES = frozenset(
    "afl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 "
    "cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 "
    "cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 "
    "gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 mit mpl-2.0 "
    "ms-pl ncsa odbl odc-by ofl-1.1 openrail osl-3.0 pddl postgresql unknown unlicense wtfpl zlib".split()
)
"""identifiers of the hub: https://huggingface.co/docs/hub/repositories-licenses"""
_INTRODUCTION = """
# Questions, answers and their corrections

Each row is a question, the answer that some model gave to it, and a correction of that answer.
The correction of a good answer is that answer itself.
An Aligner learns from such rows to correct answers: *Aligner: Efficient Alignment by Learning to Correct* (Ji et al.,
2024).
Built by `aligner build`; [`manifest.json`](manifest.json) has every count, price and hash.
"""
_COLUMNS = (
    ("id", "of the row; the same build gives the same"),
    ("question", "what was asked, as text; or"),
    ("messages", "the conversation that ends with the question, as role and content"),
    ("answer", "what a model answered"),
    ("correction", "the answer as the annotator corrected it"),
    ("sources", "where question, answer and correction came from"),
    ("kind", "identity: the answer was good as it was; edit: it was changed"),
    ("cluster", "names the group of near-duplicate questions; no cluster is in two splits"),
)
_USE = """
## How to use it

```sh
aligner train {train} --out runs/mine
```

```python
from datasets import load_dataset

rows = load_dataset("FOLDER_OR_HUB_ID", split="train")
```
"""
_LIMITS = """
## What they are not

- {whose} They are no ground truth, and nobody checked each of them.
- That a row passed the filters says that it has none of the faults they look for, and no more.
- Answers may hold what is false, offensive or dangerous: that is what is to be corrected. Corrections may still hold
  it, too.
- Near-duplicates and overlaps are found by their words; what was said in other words is not found.
- How good a model becomes that learns from these rows was not measured here.
"""
_ASKED = "Corrections of annotators that were asked are what these wrote under the principles named above."
_CAME = "Corrections that came with a source are what stood there, by whomever and under whatever principles."
_REPLACED = """\
E-mail addresses, phone numbers, IP addresses, bank accounts, cards and keys were replaced by stand-ins, alike in
question, answer and correction.
They are found by their form: names, addresses, and what has another form, are not found."""


def card(manifest: Mapping[str, Any]) -> str:
    """The README as Markdown with the header that the hub reads; the same manifest gives the same text."""
    parts = (
        _header(manifest),
        _INTRODUCTION,
        _rows(manifest),
        _funnel(manifest),
        _origin(manifest),
        _measured(manifest),
        _LIMITS.format(whose=_whose(manifest)),
        _privacy(manifest),
        _overlap(manifest),
        _rights(manifest),
        _USE.format(train=_first_file(manifest)),
    )
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def licence_ids(manifest: Mapping[str, Any]) -> list[str]:
    """The licences of the sources as the hub calls them; one that it does not know is `other`."""
    names = {name.strip().lower() for one in manifest["sources"].values() for name in one["licences"]}
    return sorted({name if name in _LICENCES else "other" for name in names}) or ["unknown"]


def size_category(rows: int) -> str:
    """How the hub calls that many rows."""
    return next((name for most, name in (*_SIZES, *_LARGER) if rows < most), "100M<n<1B")


def _header(manifest: Mapping[str, Any]) -> str:
    """The YAML between two rules, written by the hub's own library, so that no value can be more than a value."""
    from huggingface_hub import DatasetCardData

    rows, licences = manifest["rows"], licence_ids(manifest)
    named: dict[str, Any] = {"license_name": "see-the-card", "license_link": "README.md"}
    splits = [split for split in rows if rows[split] or split == "train"]
    data = DatasetCardData(
        license="other" if "other" in licences else licences[0] if len(licences) == 1 else licences,
        size_categories=[size_category(sum(rows.values()))],
        task_categories=["text-generation"],
        pretty_name="Questions, answers and their corrections",
        tags=["aligner", "alignment", "answer-correction"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}-*.parquet"} for split in splits],
            }
        ],
        **(named if "other" in licences else {}),
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def _rows(manifest: Mapping[str, Any]) -> str:
    counts = [(split, f"{count:,}") for split, count in manifest["rows"].items() if count or split == "train"]
    kinds = [(plain(kind), f"{count:,}") for kind, count in manifest["kinds"].items()]
    columns = [(plain(name), meaning) for name, meaning in _COLUMNS]
    return "\n\n".join(
        [
            "## The rows",
            _table(("split", "rows"), counts),
            *([_table(("kind", "rows"), kinds)] if kinds else []),
            _table(("column", "what it holds"), columns),
            "Other columns are facts about a row: its source and its licence, who answered and who corrected, and why.",
        ]
    )


def _funnel(manifest: Mapping[str, Any]) -> str:
    lines = [
        (
            title(step.name),
            f"{step.came:,}",
            f"{step.left:,}",
            ", ".join(f"{plain(name)} {count:,}" for name, count in reasons(step)) or "none",
        )
        for step in (Step(**told) for told in manifest["funnel"])
    ]
    head = ("what came", "rows", "went on", "did not")
    told = "Every row is accounted for; `dropped.jsonl` names each that was dropped, and why."
    return f"## What became of every row\n\n![The funnel](funnel.svg)\n\n{_table(head, lines)}\n\n{told}"


def _origin(manifest: Mapping[str, Any]) -> str:
    sources = [
        (plain(name), f"{one['written']:,}", ", ".join(map(plain, one["licences"])) or "unknown")
        for name, one in manifest["sources"].items()
    ]
    principles = [
        (plain(one["name"]), f"{one['version']}", plain(one["licence"])) for one in manifest["principles"]["of"]
    ]
    head = ("principle of those asked to correct", "version", "licence of its words")
    return "\n\n".join(
        [
            "## What they come from",
            _table(("source of questions, or of given answers", "rows", "licence"), sources),
            _table(("who answered", "rows", "how"), _writers(manifest, "upstreams")),
            _table(("who corrected", "rows", "how"), _writers(manifest, "annotators")),
            *([_table(head, principles)] if principles else []),
        ]
    )


def _writers(manifest: Mapping[str, Any], kind: str) -> list[tuple[str, str, str]]:
    """Upstreams or annotators with their rows, and whether they were asked."""
    rows: Mapping[str, int] = manifest[kind]
    sources = manifest["sources"]
    found = [
        (plain(name), f"{count:,}", "came with the source" if name in sources else "asked")
        for name, count in rows.items()
    ]
    return found or [("none", "0", "")]


def _whose(manifest: Mapping[str, Any]) -> str:
    """What the corrections are, as far as that is known of those that were asked and of those that came."""
    given = [name in manifest["sources"] for name in manifest["annotators"]]
    return " ".join([*([_ASKED] if not all(given) else []), *([_CAME] if any(given) else [])])


def _measured(manifest: Mapping[str, Any]) -> str:
    """What was measured of the quality; where nothing was, that is said."""
    found = [*_agreement(manifest.get("agreement") or {}), *_reviewed(manifest.get("review") or {})]
    told = _judged(manifest)
    parts = [_table(("", "measured"), found)] if found else ["How far two annotators agree was not measured."]
    return "\n\n".join(["## What was measured", *parts, told])


def _agreement(found: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    return ((f"of answers that two annotators corrected: {name}", told) for name, told in _pairs(found))


def _pairs(found: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if found.get("pairs"):
        yield "how many", f"{found['pairs']:,}"
        for name, key in (
            ("share that both kept or both changed", "same_choice"),
            ("Cohen's kappa of that choice", "kappa"),
            ("words and signs that the corrections differ in, median", "median_token_distance"),
        ):
            if found.get(key) is not None:
                yield name, f"{found[key]:.3g}"


def _reviewed(found: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if found.get("corrections"):
        yield "corrections that people wrote", f"{found['corrections']:,}, by {found['people']:,} people"
        yield from (
            (f"of answers that two people corrected: {name}", told) for name, told in _pairs(found["agreement"])
        )
        if (quality := found["quality"])["inspected"]:
            yield (
                "of those, looked at by an inspector, who agreed",
                f"{quality['agreed']:,} of {quality['inspected']:,}",
            )


def _judged(manifest: Mapping[str, Any]) -> str:
    settings = manifest["configuration"]
    if not settings.get("judge"):
        return "No judge compared answers and corrections."
    triples: Mapping[str, int] = manifest.get("triples") or {"compared": 0, "judged": 0}
    return (
        f"The judge {plain(settings['judge'])} compared {triples['compared']:,} corrections with their answers, in "
        f"both orders, as to being {plain(settings['quality'])}; {triples['judged']:,} of them stayed, and those that "
        "it found worse were dropped. What its calls cost is not counted. "
        "A judge errs, too, and how often this one does was not measured here."
    )


def _privacy(manifest: Mapping[str, Any]) -> str:
    kept = manifest["configuration"]["filters"]["pii"] == "keep"
    return f"## Personal data\n\n{'Personal data were not looked for.' if kept else _REPLACED}"


def _overlap(manifest: Mapping[str, Any]) -> str:
    found: Sequence[Mapping[str, Any]] = manifest.get("overlap") or ()
    if not found:
        return "## Evaluation sets\n\nThe rows were compared with no evaluation set."
    names = dict.fromkeys(name for one in found for name in one if name not in {"name", "sha256"})
    lines = [(plain(one["name"]), *(plain(one.get(name, "")) for name in names)) for one in found]
    told = "What overlapped was dropped; the manifest has the hash of each set."
    return f"## Evaluation sets\n\n{_table(('set', *map(plain, names)), lines)}\n\n{told}"


def _rights(manifest: Mapping[str, Any]) -> str:
    names = sorted({name for one in manifest["sources"].values() for name in one["licences"]})
    principles = sorted({one["licence"] for one in manifest["principles"]["of"]})
    words = f"The words of the principles are under: {', '.join(map(plain, principles))}. " if principles else ""
    unknown = "\n\nOf what is unknown, nobody knows here whether it may be passed on." if "unknown" in names else ""
    return (
        f"## Licence\n\nThe sources are under: {', '.join(map(plain, names)) or 'unknown'}. {words}"
        "Answers and corrections also come under the terms of whoever serves the models that wrote them; look those up "
        f"before you pass these rows on.{unknown}"
    )


def _first_file(manifest: Mapping[str, Any]) -> str:
    shards = max(1, -(-manifest["rows"]["train"] // manifest["configuration"]["rows_per_shard"]))
    return f"train-00000-of-{shards:05d}.jsonl"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
