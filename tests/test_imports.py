"""Importing the package is cheap, and gives the names that are promised."""

import json
import subprocess
import sys

import pytest

import aligner

HEAVY = {
    "accelerate",
    "aiohttp",
    "datasets",
    "huggingface_hub",
    "jinja2",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "rapidfuzz",
    "safetensors",
    "scipy",
    "stamina",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running some code."""
    show = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_the_package_loads_nothing_but_the_standard_library() -> None:
    """`import aligner` loads no module from outside the standard library."""
    bare, ours = loaded_by(""), loaded_by("import aligner")
    assert "aligner" in ours
    assert ours - bare - {"aligner"} <= sys.stdlib_module_names


def test_the_foundations_load_nothing_heavy() -> None:
    """Records, errors, configurations, templates, files and the command line load no heavy package."""
    names = ("records", "errors", "config", "templates", "files", "cli")
    loaded = loaded_by("import " + ", ".join(f"aligner.{name}" for name in names))
    assert "cyclopts" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["correct", "--help"],
        ["train", "triples.jsonl", "--out", "run", "--lerning-rate", "1"],
        ["trian"],
    ],
    ids=" ".join,
)
def test_answering_about_the_command_line_loads_nothing_heavy(arguments: list[str]) -> None:
    """Help, the version and every complaint about a flag come before a heavy package is loaded."""
    loaded = loaded_by(f"from aligner.cli import main\nmain({arguments!r})")
    assert "cyclopts" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_public_names_are_pinned() -> None:
    """The package offers exactly these names; a change of them is a decision."""
    assert aligner.__all__ == [
        "AlignedModel",
        "Aligner",
        "AlignerError",
        "Correction",
        "Exchange",
        "Message",
        "SamplingParams",
        "Triple",
        "__version__",
        "load_model",
    ]


@pytest.mark.parametrize("name", aligner.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Each public name can be used, is listed by dir, and is the object of that name."""
    value = getattr(aligner, name)
    assert name in dir(aligner)
    assert isinstance(value, str) if name == "__version__" else value.__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """A misspelt name fails as it does with any module."""
    with pytest.raises(AttributeError, match='has no attribute "Aligne"'):
        getattr(aligner, "Aligne")  # noqa: B009  # a type checker would refuse the attribute
