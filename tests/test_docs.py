"""The documents speak of files, functions and commands that exist."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from aligner.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/engines.md",
    "docs/serving.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "guides").glob("*.md")),
)
PLAIN = (
    "accelerate launch ",
    "curl ",
    "cd ",
    "docker ",
    "git clone ",
    "helm ",
    "kubectl ",
    "lm_eval ",
    "pip install ",
    "pre-commit install ",
    "python tools/",
    "python -m venv ",
    "source ",
    "torchrun ",
    "vllm serve ",
)
"""How a line of a shell block may begin besides with `make` and `aligner`."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.py):(\w+(?:\.\w+)*)`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def text_of(name: str) -> str:
    """A document of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> Iterator[str]:
    """The fenced blocks in one of the languages."""
    return (body for language, body in FENCE.findall(text) if language in languages)


def source(path: str) -> Path:
    """The file that a document means: a path from the root, or inside the package."""
    return ROOT / path if (ROOT / path).is_file() else ROOT / "src" / "aligner" / path


def defined(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """The dotted names of functions, classes, methods and constants in a module."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from defined(node.body, f"{prefix}{node.name}.")
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


def tree_paths(block: str) -> Iterator[str]:
    """The paths in a drawn tree: names, then two spaces and a comment; deeper lines lie in the folder above."""
    folders: list[tuple[int, str]] = []
    for drawn in block.splitlines():
        line = re.sub(r"[│├└─|`]", " ", drawn)
        depth = len(line) - len(line.lstrip())
        folders = [(at, folder) for at, folder in folders if at < depth]
        parent = folders[-1][1] if folders else ""
        for name in re.split(r"\s{2,}", line.strip(), maxsplit=1)[0].split():
            yield parent + name
            if name.endswith("/"):
                folders.append((depth, parent + name))


def shell_lines(text: str) -> Iterator[str]:
    """The commands that a document shows: without prompts, comments and output, continued lines joined."""
    for block in blocks(text, "sh", "bash", "shell", "console"):
        has_prompts = re.search(r"^\$ ", block, re.MULTILINE) is not None
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#") and (line.startswith("$ ") or not has_prompts):
                yield line.removeprefix("$ ").strip()


def commands(text: str) -> Iterator[list[str]]:
    """Each program that a document starts, as words, without redirections."""
    for line in shell_lines(text):
        words = shlex.split(line, comments=True)
        while words:
            end = next((i for i, word in enumerate(words) if word in {"|", "&&", ";"}), len(words))
            command, words = words[:end], words[end + 1 :]
            redirected = next((i for i, word in enumerate(command) if word in {">", "<", ">>", "2>"}), len(command))
            yield command[:redirected]


def make_targets() -> set[str]:
    """The targets of the Makefile that are commands."""
    return set(next(line for line in text_of("Makefile").splitlines() if line.startswith(".PHONY:")).split()[1:])


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md"])
def test_every_function_that_is_named_exists(name: str) -> None:
    """Where a document says `file.py:function`, the file has that function, class, method or constant."""
    named = NAMED.findall(text_of(name))
    assert named, f"{name} names no function"
    for path, function in named:
        names = set(defined(ast.parse(source(path).read_text(encoding="utf-8")).body))
        assert function in names, f"{name}: {path}:{function}"


def test_every_question_in_the_readme_has_its_function() -> None:
    """Each row of the table under "Where is it?" names a file and a function."""
    section = text_of("README.md").split("Where is it?", 1)[1].split("\n#", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert rows
    assert [row for row in rows if not NAMED.search(row)] == []


def test_every_path_in_the_tree_exists() -> None:
    """The tree in the README shows files and folders that are there."""
    (tree,) = (
        block for _, block in FENCE.findall(text_of("README.md")) if "src/aligner/" in block and "Makefile" in block
    )
    paths = list(tree_paths(tree))
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    """Links between the documents name files that exist."""
    assert [target for target in LINK.findall(text_of(name)) if not ((ROOT / name).parent / target).exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_is_understood(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every `make` target exists, and every `aligner` command line has only verbs, flags and values that are right."""
    monkeypatch.chdir(ROOT)
    showing = {verb: command._replace(function="commands:show") for verb, command in COMMANDS.items()}
    for words in commands(text_of(name)):
        if words[0] == "make":
            assert set(words[1:]) <= make_targets(), words
        elif words[0].rpartition("/")[2] == "aligner":
            assert main(words[1:], showing) == 0, (words, capsys.readouterr().err)
        else:
            assert " ".join([*words, ""]).startswith((*PLAIN, "cat ", "head ", "less ")), words


def test_the_python_in_the_readme_uses_names_that_exist() -> None:
    """Every Python block of the README can be compiled, and what it imports from the package is there."""
    for block in blocks(text_of("README.md"), "python", "py"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "aligner":
                module = importlib.import_module(node.module or "")
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_every_decision_has_its_number_and_a_status() -> None:
    """Records of decisions are numbered without a gap, each number once, and each says whether it holds."""
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [path.name[:4] for path in records] == [f"{number:04}" for number in range(len(records))]
    for path in records:
        assert re.search(r"^Status: (accepted|superseded by \d{4})$", path.read_text(encoding="utf-8"), re.MULTILINE), (
            path
        )
