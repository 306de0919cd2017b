"""One line of the shell becomes one configuration, or one clear line on standard error."""

import ast
import contextlib
import importlib
import inspect
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.cli import COMMANDS, Command, main
from aligner.config import (
    BootstrapArm,
    BootstrapConfig,
    ConvertConfig,
    CorrectConfig,
    DemoConfig,
    NamedUpstream,
    ServeConfig,
    TrainConfig,
)

TESTS = Path(__file__).parent
CONFIGS = TESTS.parent / "configs"


def standing_in(function: str) -> dict[str, Command]:
    """The real table, each verb with a function of commands.py."""
    return {name: command._replace(function=f"commands:{function}") for name, command in COMMANDS.items()}


SHOWING = standing_in("show")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the configuration of a command line looks like."""
    assert main([str(argument) for argument in arguments], SHOWING) == 0
    return capsys.readouterr().out.strip()


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a wrong command line is answered with."""
    assert main([str(argument) for argument in arguments], SHOWING) == 2
    captured = capsys.readouterr()
    assert not captured.out
    (line,) = captured.err.splitlines()
    return line


def toml(folder: Path, text: str) -> Path:
    """A TOML file."""
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_names_a_function_that_takes_its_configuration(verb: str) -> None:
    """The function of each verb exists, and its only parameter is the configuration of the table."""
    module, _, name = COMMANDS[verb].function.partition(":")
    (parameter,) = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    assert parameter.annotation is COMMANDS[verb].config


def test_defaults_are_those_of_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """A command without flags runs with the defaults."""
    assert run(capsys, "correct") == repr(CorrectConfig())
    assert run(capsys, "demo") == repr(DemoConfig())


@pytest.mark.parametrize(
    ("verb", "config"),
    [
        ("train", TrainConfig(triples=Path("in.jsonl"), out=Path("out"))),
        ("correct", CorrectConfig(answers=Path("in.jsonl"), out=Path("out"))),
        ("convert", ConvertConfig(source=Path("in.jsonl"), out=Path("out"))),
    ],
)
@pytest.mark.parametrize("flag_first", [False, True])
def test_the_input_stands_without_its_flag(
    capsys: pytest.CaptureFixture[str], verb: str, config: object, flag_first: bool
) -> None:
    """The first file may be named by its place, before or after the flags, or by its flag: the result is the same."""
    flags = ["--out", "out"]
    place = [*flags, "in.jsonl"] if flag_first else ["in.jsonl", *flags]
    assert run(capsys, verb, *place) == repr(config)
    assert run(capsys, verb, *flags, f"--{COMMANDS[verb].first}", "in.jsonl") == repr(config)


def test_a_flag_outranks_the_file_and_the_file_outranks_the_default(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Precedence is default < TOML < flag, also inside tables and for lists."""
    path = toml(tmp_path, 'triples = "t"\nout = "o"\nseed = 1\n[identity]\nshare = 0.5\nbetas = [0.1, 0.2]\nclip = 9\n')
    line = run(capsys, "train", "--config", path, "--seed", "2", "--identity.share", "0.25")
    base = TrainConfig(triples=Path("t"), out=Path("o"), seed=2)
    for part in ("seed=2", "share=0.25", "betas=(0.1, 0.2)", "clip=9.0", f"save_every={base.save_every}"):
        assert part in line, part


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_configuration_file_may_stand_anywhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, place: int
) -> None:
    """`--config FILE` is understood before and after the verb."""
    words = ["convert", "in.json"]
    words[place:place] = ["--config", str(toml(tmp_path, 'out = "o"'))]
    assert run(capsys, *words) == repr(ConvertConfig(source=Path("in.json"), out=Path("o")))


@pytest.mark.parametrize("stage", [[], ["status"]])
def test_the_file_of_a_study_stands_without_its_flag(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, stage: list[str]
) -> None:
    """It may stand by its place, whatever stands around it, and says the same; flags outrank it."""
    path = toml(tmp_path, 'upstream = "demo"\nrounds = 2\n[[arms]]\nname = "a"\n[[arms]]\nname = "b"\nway = "dpo"')
    named = run(capsys, "bootstrap", *stage, "--rounds", 5, "--config", path)
    assert run(capsys, "bootstrap", *stage, path, "--rounds", 5) == named
    assert run(capsys, "bootstrap", *stage, "--rounds", 5, path) == named
    arms = (BootstrapArm(name="a"), BootstrapArm(name="b", way="dpo"))
    config = BootstrapConfig(stage="status" if stage else "run", upstream="demo", rounds=5, arms=arms)
    assert named == repr(config)


def test_a_study_may_be_named_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """How far it is can be asked of its folder alone; and a file whose flag is another's is not its configuration."""
    assert run(capsys, "bootstrap", "status", "--out", "r.toml") == repr(
        BootstrapConfig(stage="status", out=Path("r.toml"))
    )
    assert '"none.toml" does not exist' in refused(capsys, "bootstrap", "none.toml")
    assert "Unused Tokens" in refused(capsys, "train", "t", "none.toml", "--out", "o")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_is_understood(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    """The TOML files that come with the package have only known keys, with values of the right type."""
    verbs = {"evaluate": "evaluate", "build": "build", "bootstrap": "bootstrap", "weak-to-strong": "bootstrap"}
    verb = next((verb for begins, verb in verbs.items() if path.stem.startswith(begins)), "train")
    words = ["t.jsonl", "--out", "o"] if verb == "train" else []
    assert f"{verb.title()}Config(" in run(capsys, verb, *words, "--config", path)


def test_lists_of_tables_come_from_a_file_or_from_flags(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each flag has one table as a JSON object, and flags outrank the file."""
    named = [NamedUpstream(name="a", url="u"), NamedUpstream(name="b", url="v", key_env="K")]
    text = '[[upstreams]]\nname = "a"\nurl = "u"\n[[upstreams]]\nname = "b"\nurl = "v"\nkey_env = "K"\n'
    config = toml(tmp_path, f'upstream = "x"\n{text}')
    assert run(capsys, "serve", "--config", config) == repr(ServeConfig(upstream="x", upstreams=tuple(named)))
    flags = ["--upstreams", '{"name": "c", "url": "w"}', "--upstreams", '{"name": "d", "url": "z"}']
    given = tuple(NamedUpstream(name=name, url=url) for name, url in ("cw", "dz"))
    assert run(capsys, "serve", "--config", config, *flags) == repr(ServeConfig(upstream="x", upstreams=given))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[[upstreams]]\nname = "a"\nul = "u"',
            'aligner: unknown key in {path} [[upstreams]] "a" "ul"; did you mean "url"?',
        ),
        ('[[upstreams]]\nname = "a"', 'aligner: {path} [[upstreams]] "a": no "url"'),
        ("[[upstreams]]\nname = 1\nurl = 'u'", "aligner: {path} [[upstreams]] 1 [name]: 1 is not str"),
        (
            '[upstreams]\nname = "a"',
            "{path}: upstreams is a list of tables: write the keys of each under [[upstreams]]",
        ),
    ],
)
def test_a_wrong_list_of_tables_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, problem: str
) -> None:
    """With the file, the list, the table by its name or else its number, and the key."""
    path = toml(tmp_path, f'upstream = "x"\n{text}')
    line = refused(capsys, "serve", "--config", path)
    assert problem.replace("{path}", str(path)) in line
    assert "--upstreams: a table is written as a JSON object" in refused(
        capsys, "serve", "--upstream", "x", "--upstreams", "a"
    )


def test_a_wrong_arm_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of several tables the one that is wrong, and the table in it; flags say theirs."""
    path = toml(tmp_path, '[[arms]]\nname = "a"\n[[arms]]\nname = "b"\n[arms.sft]\nlearning_rat = 1')
    line = refused(capsys, "bootstrap", path)
    assert line.startswith(f'aligner: unknown key in {path} [[arms]] "b" [sft] "learning_rat"; did you mean')
    line = refused(capsys, "bootstrap", "--arms", '{"name": "a"}', "--arms", '{"name": "b", "wy": "dpo"}')
    assert line.startswith('aligner: unknown key in --arms "b" "wy"; did you mean "way"?')
    assert refused(capsys, "bootstrap", "--arms", "3") == "aligner: --arms 1: 3 is not BootstrapArm"


def test_help_says_how_a_file_may_be_given(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it needs no flag, that is said below the verb's line; a list of tables shows no page of defaults."""
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["bootstrap", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "A TOML file may stand without its flag: aligner bootstrap CONFIG.toml" in shown
    assert "BootstrapArm(" not in shown
    assert main(["train", "--help"]) == main(["--help"]) == 0
    assert "without its flag" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sed = 1", 'unknown key "sed"; did you mean "seed"?'),
        ("learning_rat = 1", 'unknown key "learning_rat"; did you mean "copying.learning_rate"?'),
        ("[new]\nlayrs = 1", 'unknown key "new.layrs"; did you mean "new.layers"?'),
        ("correct = 1", 'unknown key "correct"; did you mean "correction"?'),
        ("xxxxxxxxxx = 1", 'unknown key "xxxxxxxxxx"; its keys are the flags that --help lists'),
        ("identity = 3", "identity is a table: write its keys under [identity]"),
        ("[identity]\nbetas = [1]", "--identity.betas: Incorrect number of arguments: expected 2 but got 1."),
        ("seed =", "Invalid value (at end of document)"),
        ("\udcff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_a_wrong_file_is_named_with_the_nearest_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, problem: str
) -> None:
    """A misspelt key, a broken TOML file and one that is no UTF-8 are refused in one line that names the file."""
    path = tmp_path / "run.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    line = refused(capsys, "train", "t", "--out", "o", "--config", path)
    assert line.startswith(f"aligner: {path}: {problem}")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("trian", 'Unknown command "trian". Did you mean "train"?'),
        ("train", "--out requires an argument"),
        ("train t --out", "--out requires an argument"),
        ("import log.jsonl", "--database requires an argument"),
        ("train t --oot o --out o", "Unknown option: --oot. Did you mean --out?"),
        ("train t u --out o", "Unused Tokens: ['u']"),
        ("train t --out o --seed x", 'Invalid value for --seed: unable to convert "x" into int'),
        ("train t --out o --device gpu", 'Choose from: "auto", "cpu", "cuda"'),
        ("demo --config none.toml", '"none.toml" does not exist'),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], words: str, problem: str) -> None:
    """A wrong verb, flag or value is answered in one line that says what would be right."""
    line = refused(capsys, *words.split())
    assert line.startswith("aligner: ")
    assert problem in line


@pytest.mark.parametrize("words", ["- --out -", "--answers - --out -", "--answers=- --out=-", "--out - -"])
def test_a_hyphen_is_a_path(capsys: pytest.CaptureFixture[str], words: str) -> None:
    """`-` names standard input and output, with and without its flag."""
    assert run(capsys, "correct", *words.split()) == repr(CorrectConfig(answers=Path("-"), out=Path("-")))


def _can_be_a_value(text: str) -> bool:
    return not text.startswith("-") or text == "-" or any(map(str.isspace, text))


@settings(max_examples=25)  # each builds a command line
@given(st.text().filter(_can_be_a_value))
def test_any_text_reaches_the_command_unchanged(text: str) -> None:
    """A text given by a flag arrives letter by letter, also when it begins with a hyphen as a list does."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["correct", "--answer", text, f"--question={text}"], {"correct": SHOWING["correct"]}) == 0
    assert out.getvalue() == f"{CorrectConfig(answer=text, question=text)!r}\n"


@pytest.mark.parametrize(
    ("function", "line", "exit_code"),
    [
        ("bad_row", 'aligner: a.jsonl:17: no "answer" and nothing else', 1),
        ("disk_full", "aligner: o.jsonl: No space left on device", 1),
        ("no_connection", "aligner: nobody listens", 1),
        ("misuse", "aligner: --answers and --answer exclude each other", 2),
        ("interrupted", "aligner: interrupted", 130),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], function: str, line: str, exit_code: int
) -> None:
    """What a command raises becomes one line on standard error, without a traceback, and the exit code of its kind."""
    assert main(["correct", "a.jsonl", "--out", "o.jsonl"], standing_in(function)) == exit_code
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err == f"{line}\n"


def start(function: str, **streams: Any) -> subprocess.Popen[str]:
    """A program whose command `correct` is a function of commands.py."""
    code = (
        "import sys; from aligner.cli import COMMANDS, main; "
        f"sys.exit(main(['correct'], {{'correct': COMMANDS['correct']._replace(function='commands:{function}')}}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([sys.executable, "-c", code], text=True, env=environment, **streams)


def test_control_c_is_exit_code_130() -> None:
    """Ctrl-C ends a running command in one line."""
    with start("wait") as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        program.send_signal(signal.SIGINT)
        assert program.communicate() == ("", "aligner: interrupted\n")
    assert program.returncode == 130


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`aligner correct ... | head -1` ends quietly, as if by SIGPIPE."""
    with start("flood") as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline() == "flood\n"
        program.stdout.close()
        assert program.stderr.read() == ""
    assert program.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    """A full disk behind standard output is named in one line, and the exit code is 1."""
    with Path("/dev/full").open("w") as full, start("show", stdout=full) as program:
        assert program.communicate()[1] == "aligner: [Errno 28] No space left on device\n"
    assert program.returncode == 1


def test_the_package_is_a_program() -> None:
    """`python -m aligner` is the same command line, and its exit code reaches the shell."""
    done = subprocess.run([sys.executable, "-m", "aligner", "trian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith('aligner: Unknown command "trian".')


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    """`aligner --version` prints what pip shows."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{metadata.version('aligner-llm')}\n"


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_flag_has_a_help_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """The sentence under a field is the help of its flag, and no field is without one."""
    monkeypatch.setenv("COLUMNS", "300")
    assert main([verb, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, text in helps(COMMANDS[verb].config):
        assert f"--{name}" in shown
        assert text in shown, name


def helps(config: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each flag of a configuration with the string under its field."""
    for parent in reversed(config.__mro__[:-1]):
        (tree,) = ast.parse(inspect.getsource(parent)).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in pairwise(tree.body):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            kind: Any = config.__dataclass_fields__[field.target.id].type
            if isinstance(kind, type) and is_dataclass(kind):
                yield from helps(kind, f"{prefix}{field.target.id}.")
            else:
                assert isinstance(text, ast.Expr), f"{field.target.id} has no string under it"
                yield f"{prefix}{field.target.id}".replace("_", "-"), ast.literal_eval(text.value)
