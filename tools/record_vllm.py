"""Record what vLLM asks of a drafter of ours, from its wheel and without installing it.

    python tools/record_vllm.py [vllm-….whl] [--version 0.33.0] [--out tests/integrations/vllm_interface.json]

Without a wheel, that version is fetched with pip (about 340 MB) into a temporary folder, and deleted afterwards.
Sources are parsed, never run. Where vLLM does no longer look as expected, the script says so and writes nothing.
"""

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from email.parser import HeaderParser
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

_CONFIG = "vllm/config/speculative.py"
_LOADER = "vllm/v1/spec_decode/custom_class_proposer.py"
_RUNNER = "vllm/v1/worker/gpu_model_runner.py"
_SIBLING = "vllm/v1/spec_decode/ngram_proposer.py"
_FIELDS = {
    "vllm/config/vllm.py": ("VllmConfig", ("model_config", "scheduler_config", "speculative_config")),
    "vllm/config/model.py": ("ModelConfig", ("max_model_len", "model")),
    "vllm/config/scheduler.py": ("SchedulerConfig", ("max_num_seqs",)),
    _CONFIG: ("SpeculativeConfig", ("num_speculative_tokens",)),
}
"""what a drafter may want to know of the configuration with which it is made"""
_METHOD = "custom_class"
_DRAFTER = "self.drafter"
_SHARED = ("aligner-llm", "huggingface-hub", "numpy", "tokenizers", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in the wheel."""

    file: str
    function: str
    line: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a method of the drafter, as the runner writes it."""

    method: str
    arguments: list[str]
    """by position"""
    keywords: list[str]
    where: Place
    conditions: list[str]
    """under which it is made, outermost first"""

    @property
    def guarded(self) -> bool:
        """Whether the runner first asks the drafter for such a method."""
        return any(f"hasattr({_DRAFTER}, '{self.method}')" in condition for condition in self.conditions)

    @property
    def required(self) -> bool:
        """Whether it is made for drafters of this kind and no other."""
        return any(condition.endswith(f".method == '{_METHOD}'") for condition in self.conditions)


class Source:
    """One parsed file of the wheel."""

    def __init__(self, wheel: ZipFile, file: str) -> None:
        self.file = file
        self.tree = ast.parse(wheel.read(file).decode("utf-8"), file)

    def function(self, name: str) -> ast.FunctionDef:
        """The function of that name, `Class.method` for a method."""
        body: Sequence[ast.stmt] = self.tree.body
        *classes, last = name.split(".")
        for part in classes:
            body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == part)
        return next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == last)

    def place(self, function: str, node: ast.expr | ast.stmt) -> Place:
        """Where a node of a function stands."""
        return Place(self.file, function, node.lineno)


def record(path: Path) -> Mapping[str, object]:
    """What the wheel says of drafters that are classes of the user's own."""
    with ZipFile(path) as wheel:
        runner = Source(wheel, _RUNNER)
        calls = list(drafter_calls(runner))
        required = [call for call in calls if call.required]
        if [call.method for call in required] != ["propose"]:
            raise LookupError(f"{_RUNNER}: another interface than one call of propose: {required}")
        return {
            "package": "vllm",
            **metadata(wheel),
            "configuration": configuration(Source(wheel, _CONFIG)),
            "loading": loading(Source(wheel, _LOADER), runner),
            "fields": [field for file, named in _FIELDS.items() for field in fields(Source(wheel, file), *named)],
            "calls": [asdict(call) for call in required],
            "calls_if_there": [asdict(call) for call in calls if call.guarded and not call.required],
            "attributes_if_there": sorted(set(guarded_attributes(runner)) - {call.method for call in calls}),
            "calls_of_other_drafters": [
                {"method": call.method, "line": call.where.line, "conditions": call.conditions}
                for call in calls
                if not (call.guarded or call.required)
            ],
            "signature_of_ngram": signature(Source(wheel, _SIBLING), "NgramProposer.propose"),
        }


def metadata(wheel: ZipFile) -> Mapping[str, object]:
    """The version, and what it requires of the packages that an Aligner needs too."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    headers = HeaderParser().parsestr(wheel.read(name).decode("utf-8"))
    required = [str(line) for line in headers.get_all("Requires-Dist") or ()]
    shared = [line for line in required if _name(line) in _SHARED]
    return {"version": headers["Version"], "wheel": Path(wheel.filename or "").name, "requires": sorted(shared)}


def configuration(source: Source) -> Mapping[str, object]:
    """What the speculative configuration has to say: its method, and what it demands of the model's name."""
    method = next(
        node for node in source.tree.body if isinstance(node, ast.Assign) and ast.unparse(node).find(_METHOD) >= 0
    )
    infer, check = "SpeculativeConfig._is_custom_proposer_path", "SpeculativeConfig.__post_init__"
    path, init = source.function(infer), source.function(check)
    messages = [node for node in ast.walk(init) if isinstance(node, ast.Raise) and _METHOD in text_of(node)]
    return {
        "method": _METHOD,
        "listed": asdict(source.place(ast.unparse(method.targets[0]), method)),
        "model": [text_of(node) for node in messages],
        "model_where": [asdict(source.place(check, node)) for node in messages],
        "method_if_left_out": {
            "model": ast.get_docstring(path),
            "rule": [ast.unparse(node) for node in path.body if not isinstance(node, ast.Expr)],
            "where": asdict(source.place(infer, path)),
        },
    }


def loading(source: Source, runner: Source) -> Mapping[str, object]:
    """How the class is found, made and checked."""
    name = "create_custom_proposer"
    function = source.function(name)
    made = next(node for node in calls_in(function) if ast.unparse(node.func) == "user_class")
    caller, used = next(
        (f"{owner}.{method.name}", node)
        for owner, method in methods(runner)
        for node in calls_in(method)
        if ast.unparse(node.func) == name
    )
    return {
        "function": asdict(source.place(name, function)),
        "called": asdict(runner.place(caller, used)),
        "made_with": [ast.unparse(argument) for argument in made.args],
        "errors": [text_of(node) for node in ast.walk(function) if isinstance(node, ast.Raise)],
    }


def fields(source: Source, owner: str, names: Sequence[str]) -> Iterator[Mapping[str, object]]:
    """Fields of a class of the configuration; raises LookupError for one that is not there."""
    body = next(node.body for node in source.tree.body if isinstance(node, ast.ClassDef) and node.name == owner)
    known = {ast.unparse(node.target): node for node in body if isinstance(node, ast.AnnAssign)}
    if missing := set(names) - set(known):
        raise LookupError(f"{source.file}: {owner} has no {', '.join(sorted(missing))}")
    for name in names:
        type_of = ast.unparse(known[name].annotation)
        yield {"class": owner, "name": name, "type": type_of, "where": asdict(source.place(owner, known[name]))}


def drafter_calls(source: Source) -> Iterator[Call]:
    """Every call of a method of the drafter."""
    for owner, method in methods(source):
        for node, conditions in under(method.body, ()):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_drafter(node.func.value):
                yield Call(
                    node.func.attr,
                    [ast.unparse(argument) for argument in node.args],
                    [keyword.arg or "**" for keyword in node.keywords],
                    source.place(f"{owner}.{method.name}", node),
                    list(conditions),
                )


def guarded_attributes(source: Source) -> Iterator[str]:
    """Names for which the runner asks a drafter before it uses them."""
    for node in calls_in(source.tree):
        if ast.unparse(node.func) == "hasattr" and ast.unparse(node.args[0]) in (_DRAFTER, "drafter"):
            yield str(ast.literal_eval(node.args[1]))


def under(nodes: Sequence[ast.AST], conditions: tuple[str, ...]) -> Iterator[tuple[ast.AST, tuple[str, ...]]]:
    """Every node with the conditions of the `if` and `elif` branches in which it stands."""
    for node in nodes:
        yield node, conditions
        if isinstance(node, ast.If):
            yield from under([node.test], conditions)
            yield from under(node.body, (*conditions, ast.unparse(node.test)))
            # The branch of an `elif` has a condition of its own; that none before it held is left out.
            yield from under(node.orelse, conditions)
        else:
            yield from under(list(ast.iter_child_nodes(node)), conditions)


def methods(source: Source) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The methods of a file's classes, with the classes' names."""
    for owner in source.tree.body:
        if isinstance(owner, ast.ClassDef):
            yield from ((owner.name, node) for node in owner.body if isinstance(node, ast.FunctionDef))


def calls_in(tree: ast.AST) -> Iterator[ast.Call]:
    """All calls in a tree."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def is_drafter(node: ast.expr) -> bool:
    """Whether an expression is the runner's drafter, with or without a cast."""
    return ast.unparse(node) in (_DRAFTER, f"cast(Any, {_DRAFTER})")


def text_of(node: ast.AST) -> str:
    """The words in a statement, with its values as their expressions."""
    pieces = (
        part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"
        for part in _string_parts(node)
    )
    return "".join(map(str, pieces))


def _string_parts(node: ast.AST) -> Iterator[ast.Constant | ast.FormattedValue]:
    if isinstance(node, ast.FormattedValue) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        yield node
        return
    for child in ast.iter_child_nodes(node):
        yield from _string_parts(child)


def signature(source: Source, name: str) -> Mapping[str, object]:
    """A function's parameters in order, those with a default with it."""
    function = source.function(name)
    arguments = function.args
    plain = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    first_default = len(plain) - len(arguments.defaults)
    defaults = {plain[first_default + i]: ast.unparse(node) for i, node in enumerate(arguments.defaults)}
    returns = ast.unparse(function.returns) if function.returns else None
    return {
        "parameters": plain,
        "defaults": defaults,
        "returns": returns,
        "where": asdict(source.place(name, function)),
    }


def fetch(version: str, folder: Path) -> Path:
    """The wheel of a version, for Linux on x86-64."""
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 31, 35)]
    options = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", *platforms]
    command = [sys.executable, "-m", "pip", "download", f"vllm=={version}", *options, "--dest", str(folder)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _name(requirement: str) -> str:
    """The name in a requirement, written as package indexes write it."""
    letters = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), len(requirement))
    return requirement[:letters].lower().replace("_", "-")


def main() -> None:
    """Read a wheel and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, nargs="?", help="of vLLM; without one, it is fetched")
    parser.add_argument("--version", default="0.33.0", help="to fetch")
    parser.add_argument("--out", type=Path, default=Path("tests/integrations/vllm_interface.json"))
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = record(arguments.wheel or fetch(arguments.version, Path(folder)))
    arguments.out.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"vLLM {found['version']}: {arguments.out}")


if __name__ == "__main__":
    main()
