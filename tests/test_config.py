"""Laws of reading a configuration from a file."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from aligner.config import (
    BootstrapConfig,
    BuildConfig,
    ConvertConfig,
    CorrectConfig,
    DemoConfig,
    EvaluateConfig,
    IdentityStage,
    NewModel,
    TrainConfig,
    packaged_config,
    read_config,
)
from aligner.errors import MisuseError
from aligner.objectives import instruction_from
from aligner.templates import template_named

NEEDED = {"triples": Path("t.jsonl"), "out": Path("run")}


def written(folder: Path, text: str) -> Path:
    """A TOML file."""
    path = folder / "c.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    """What a file does not name keeps its default."""
    empty = written(tmp_path, "")
    assert read_config(TrainConfig, empty, **NEEDED) == TrainConfig(triples=Path("t.jsonl"), out=Path("run"))
    assert read_config(CorrectConfig, empty) == CorrectConfig()
    assert read_config(DemoConfig, empty) == DemoConfig()


def test_a_file_sets_fields_of_every_kind(tmp_path: Path) -> None:
    """Texts, paths, choices, numbers, pairs and whole tables are set, at any depth."""
    text = """
        triples = "t.jsonl"
        out = "run"
        device = "cpu"
        feedback = ["a.db", "b.db"]
        reviewers = []
        [new]
        layers = 2
        [identity]
        until = 1
        betas = [0.8, 1]
    """
    assert read_config(TrainConfig, written(tmp_path, text)) == TrainConfig(
        triples=Path("t.jsonl"),
        out=Path("run"),
        device="cpu",
        feedback=("a.db", "b.db"),
        new=NewModel(layers=2),
        identity=IdentityStage(until=1.0, betas=(0.8, 1.0)),
    )
    assert read_config(DemoConfig, written(tmp_path, 'training = "a.toml"\nshipped = true')) == DemoConfig(
        training=Path("a.toml"), shipped=True
    )


@pytest.mark.parametrize(("text", "gate"), [("'auto'", "auto"), ("'off'", "off"), ("0.5", 0.5), ("1", 1)])
def test_a_field_may_be_a_number_or_a_word(tmp_path: Path, text: str, gate: object) -> None:
    """Where both are allowed, each is read as what it is; another word is refused with those that are known."""
    path = written(tmp_path, f"aligner_gate = {text}")
    assert read_config(BootstrapConfig, path).aligner_gate == gate
    for wrong in ("'on'", "true"):
        with pytest.raises(MisuseError, match=r"c\.toml \[aligner_gate\]"):
            read_config(BootstrapConfig, written(tmp_path, f"aligner_gate = {wrong}"))


def test_what_is_given_wins(tmp_path: Path) -> None:
    """A value given besides the file takes the place of the file's."""
    path = written(tmp_path, 'source = "a"\nout = "b"\nformat = "hh-rlhf"')
    config = read_config(ConvertConfig, path, source=Path("c"), format="triples")
    assert config == ConvertConfig(source=Path("c"), out=Path("b"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lerning_rate = 1", ': unknown key in {path} "lerning_rate" (known: base'),
        ("devise = 'cpu'", ': unknown key in {path} "devise"; did you mean "device"?'),
        (
            "[identity]\nlerning_rate = 1",
            'unknown key in {path} [identity] "lerning_rate"; did you mean "learning_rate"?',
        ),
        ("device = 'gpu'", 'unknown value in {path} [device] "gpu"; did you mean "cpu"? (known: auto, cpu, cuda)'),
        ("max_length = 'long'", "{path} [max_length]: 'long' is not int"),
        ("max_length = true", "{path} [max_length]: True is not int"),
        ("max_length = 1.5", "{path} [max_length]: 1.5 is not int"),
        ("out = 3", "{path} [out]: 3 is not Path"),
        ("new = 3", "{path} [new]: 3 is not NewModel"),
        ("base = {}", "{path} [base]: {} is not str"),
        ("[identity]\nbetas = [0.9]", "{path} [identity] [betas]: [0.9] is not tuple[float, float]"),
        ("[identity]\nbetas = [0.9, 'b']", "{path} [identity] [betas]: 'b' is not float"),
        ("[identity]\nbetas = 0.9", "{path} [identity] [betas]: 0.9 is not tuple[float, float]"),
        ("feedback = 'log.db'", "{path} [feedback]: 'log.db' is not tuple[str, ...]"),
        ("feedback = ['log.db', 3]", "{path} [feedback]: 3 is not str"),
        ("a = ", "{path}: Invalid value"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, text: str, problem: str) -> None:
    """The error names the file, the table and the key once, and the nearest that is known."""
    path = written(tmp_path, text)
    given: dict[str, Any] = {name: value for name, value in NEEDED.items() if name not in text}
    with pytest.raises(MisuseError) as caught:
        read_config(TrainConfig, path, **given)
    line = str(caught.value)
    assert problem.replace("{path}", str(path)).removeprefix(": ") in line
    assert line.count(str(path)) == 1
    assert "\n" not in line


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    """A field without a default must come from the file or be given."""
    path = written(tmp_path, "seed = 1")
    with pytest.raises(MisuseError, match=f'^{path}: no "out"$'):
        read_config(TrainConfig, path)


def test_a_file_that_cannot_be_read_is_misuse(tmp_path: Path) -> None:
    """A file that is not there, or not text, is told in one line."""
    with pytest.raises(MisuseError, match=r"none\.toml: No such file or directory$"):
        read_config(DemoConfig, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(MisuseError, match=r"bad\.toml: 'utf-8' codec"):
        read_config(DemoConfig, tmp_path / "bad.toml")


@pytest.mark.parametrize("path", sorted(packaged_config("demo").parent.glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_configuration_can_be_read(path: Path) -> None:
    """The configurations that come with the package have known keys and fitting values."""
    if path.stem.startswith("evaluate"):
        assert len(read_config(EvaluateConfig, path).upstreams) == 11
        return
    if path.stem.startswith("build"):
        assert read_config(BuildConfig, path).sources
        return
    if path.stem.startswith(("bootstrap", "weak-to-strong")):
        assert read_config(BootstrapConfig, path).upstream
        return
    config = read_config(TrainConfig, path, **NEEDED)
    assert config.base
    assert template_named(config.template).instructed
    assert bool(instruction_from(config.instruction, config.objective)) == (path.stem in ("empathy", "code", "maths"))
    assert config != TrainConfig(triples=config.triples, out=config.out)


@pytest.mark.parametrize("kind", [TrainConfig, CorrectConfig, ConvertConfig, DemoConfig])
def test_every_field_that_can_be_left_out_says_what_it_is(kind: Any) -> None:
    """A default is a value that itself fits the type of its field."""
    needed = {field.name: "x" for field in fields(kind) if field.default is MISSING}
    config = kind(**needed)
    assert all(getattr(config, field.name) == field.default for field in fields(kind) if field.name not in needed)
