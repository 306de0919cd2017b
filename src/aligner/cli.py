"""The table of commands; nothing heavy is imported before the command line and its TOML file are known to be right."""

import difflib
import importlib
import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast, get_args, get_origin

from cyclopts import App, CoercionError, CycloptsError, Parameter, Token, UnknownOptionError
from cyclopts.config import Dict
from cyclopts.types import ExistingFile

from aligner.config import (
    AblateConfig,
    BootstrapConfig,
    BuildConfig,
    CalibrateConfig,
    ConvertConfig,
    CorrectConfig,
    DemoConfig,
    DoctorConfig,
    EvaluateConfig,
    ExportConfig,
    GrantConfig,
    ImportConfig,
    ReportConfig,
    ServeConfig,
    TrainConfig,
    TrainJudgeConfig,
    read_tables,
)
from aligner.errors import AlignerError, MisuseError, visible


class Command(NamedTuple):
    """A verb: the configuration that it reads, the function that takes it, and its line in `aligner --help`."""

    config: type
    function: str
    """module:name, imported only when it is run"""
    help: str
    first: str | None = None
    """the field that may also stand without its flag"""
    second: str | None = None
    """one that may so stand behind it"""
    bare_file: bool = False
    """whether its TOML file may stand without --config"""


COMMANDS: Mapping[str, Command] = {
    "train": Command(TrainConfig, "aligner.plan:plan_or_train", "train an Aligner on triples", "triples"),
    "ablate": Command(AblateConfig, "aligner.ablate:ablate", "change one thing at a time in training", "tables"),
    "bootstrap": Command(
        BootstrapConfig,
        "aligner.bootstrap:bootstrap",
        "teach the upstream with its corrections, round after round",
        "stage",
        bare_file=True,
    ),
    "correct": Command(CorrectConfig, "aligner.correct:correct_answers", "correct the answers of any model", "answers"),
    "calibrate": Command(
        CalibrateConfig, "aligner.calibrate:calibrate", "fit the gate of a checkpoint anew", "checkpoint"
    ),
    "build": Command(BuildConfig, "aligner.build:build", "make triples of questions, by many models", "stage"),
    "convert": Command(ConvertConfig, "aligner.convert:convert", "turn known data formats into triples", "source"),
    "serve": Command(ServeConfig, "aligner.serve:serve", "correct the answers of any OpenAI-compatible server"),
    "grant": Command(GrantConfig, "aligner.grant:grant", "make a key for a client of the proxy", "name"),
    "doctor": Command(DoctorConfig, "aligner.doctor:doctor", "examine any OpenAI-compatible endpoint", "url"),
    "export": Command(ExportConfig, "aligner.export:export", "make training data of what was logged", "database"),
    "evaluate": Command(EvaluateConfig, "aligner.evaluate:evaluate", "show what the Aligner fixes and what it breaks"),
    "train-judge": Command(
        TrainJudgeConfig, "aligner.train_judge:train_judge", "train a small judge of truth", "labelled"
    ),
    "import": Command(
        ImportConfig, "aligner.import_log:import_log", "bring an exported log into another", "file", "database"
    ),
    "report": Command(ReportConfig, "aligner.report:report", "say what the Aligner would have changed", "database"),
    "demo": Command(DemoConfig, "aligner.demo:demo", "train and measure an Aligner in minutes, with no download"),
}


def main(arguments: Sequence[str] | None = None, commands: Mapping[str, Command] = COMMANDS) -> int:
    """Run one command line and return its exit code: 2 for misuse, 1 for failure, 130 when interrupted."""
    try:
        tokens = _spelt_out(sys.argv[1:] if arguments is None else arguments)
        build_app(commands).meta(_with_its_flag(tokens, commands))
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(_explain(error), 2)
    except AlignerError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        return _drop_output(141)  # as of a program that SIGPIPE ended
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def build_app(commands: Mapping[str, Command]) -> App:
    """The command line for a table of commands; calling `.meta` on it also understands `--config FILE`."""
    app = App(
        name="aligner",
        help="A small model that reads a question and any model's answer, and writes a better answer.",
        version=_version,
        default_parameter=Parameter(name="*", negative_iterable=()),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    app.meta.suppress_keyboard_interrupt = False
    for name, command in commands.items():
        app.command(_runner(command), name=name, help=_help(name, command))

    @app.meta.default
    def _with_config(  # pyright: ignore[reportUnusedFunction]  # cyclopts keeps it
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Annotated[ExistingFile | None, Parameter(name="--config", help="TOML file to start from")] = None,
    ) -> None:
        if config:
            table = _read_toml(config)
            for command in commands.keys() & set(tokens[:1]):
                _check_tables(commands[command].config, table, str(config))
            # The same keys for every command: otherwise cyclopts takes a key named like a command for that command's.
            app.config = Dict(dict.fromkeys(commands, table), source=str(config))
        app(tokens)

    return app


def _help(name: str, command: Command) -> str:
    """The line of a command, and below it how its file may be given, which `aligner --help` leaves out."""
    bare = f"\n\nA TOML file may stand without its flag: aligner {name} CONFIG.toml"
    return command.help + (bare if command.bare_file else "")


def _runner(command: Command) -> Callable[[Any], None]:
    """A function whose flags are the fields of the configuration, and which imports the verb when it is called."""

    def run(config: Any) -> None:
        module, _, name = command.function.partition(":")
        verb: Callable[[Any], object] = getattr(importlib.import_module(module), name)
        verb(command.config(**{f.name: getattr(config, f.name) for f in fields(config)}))

    shape = _without_flags(command.config, [name for name in (command.first, command.second) if name])
    shape = _with_tables(shape)
    run.__annotations__["config"] = shape
    if all(f.default is not MISSING for f in fields(command.config)):
        run.__defaults__ = (shape(),)  # nothing has to be given; where pydantic is loaded, its type is looked at
    return run


def _without_flags(config: type, names: Sequence[str]) -> type:
    """The configuration with fields that cyclopts also takes by their place, as it takes all that are not kw_only."""
    if not names:
        return config
    found = [next(f for f in fields(config) if f.name == name) for name in names]
    places = [(f.name, f.type, field(default=f.default, kw_only=False)) for f in found]
    # Cyclopts takes classes of the standard library, where make_dataclass puts its own, for plain types.
    namespace = {"__module__": config.__module__}
    return make_dataclass(config.__name__, places, bases=(config,), namespace=namespace, frozen=True, kw_only=True)


def _with_tables(config: type) -> type:
    """The configuration whose lists of tables are read as JSON objects, which cyclopts makes of a file's tables."""
    lists = [f for f in fields(config) if _is_list_of_tables(f.type)]
    if not lists:
        return config
    parameter = Parameter(converter=_tables_of, n_tokens=1, show_default=False)  # tables of all keys, page-long
    places = [(f.name, Annotated[f.type, parameter], field(default=f.default, kw_only=True)) for f in lists]
    namespace = {"__module__": config.__module__}
    return make_dataclass(config.__name__, places, bases=(config,), namespace=namespace, frozen=True, kw_only=True)


def _is_list_of_tables(kind: object) -> bool:
    return get_origin(kind) is tuple and is_dataclass(get_args(kind)[0])


def _tables_of(kind: Any, tokens: Sequence[Token]) -> object:
    """What was given for a list of tables, one to a token."""
    found: list[object] = []
    for number, token in enumerate(tokens, 1):
        name, is_flag = str(token.keyword), token.source == "cli"
        list_ = name if is_flag else f"{token.source} [{name}]"
        try:
            table: object = json.loads(token.value)
        except json.JSONDecodeError as error:
            raise MisuseError(f"{list_}: a table is written as a JSON object, or in a TOML file") from error
        tables = [table]
        called = cast("dict[str, object]", table).get("name") if isinstance(table, dict) else None
        where = f'{list_} "{called}"' if isinstance(called, str) else f"{list_} {number}"
        found += cast("tuple[object, ...]", read_tables(kind, tables, where))
    return tuple(found)


def _spelt_out(tokens: Iterable[str]) -> list[str]:
    """Tokens whose values may begin with a hyphen: `-` for a path, and any text with white space in it."""
    result: list[str] = []
    for token in tokens:
        is_value = token == "-" or (token.startswith("-") and any(map(str.isspace, token)))
        flag = result[-1] if result else ""
        if is_value and flag.startswith("--") and flag != "--" and "=" not in flag:
            result[-1] = f"{flag}={token}"
        else:
            result.append("./-" if token == "-" else token)  # the same Path, but no flag
    return result


def _with_its_flag(tokens: Sequence[str], commands: Mapping[str, Command]) -> Sequence[str]:
    """Tokens in which the TOML file has its flag, where the command allows it to stand without."""
    command = commands.get(tokens[0]) if tokens else None
    if command is None or not command.bare_file or any(token.startswith("--config") for token in tokens):
        return tokens
    for place, (before, token) in enumerate(pairwise(tokens), 1):
        if token.endswith(".toml") and not before.startswith("-"):
            return [*tokens[:place], "--config", *tokens[place:]]
    return tokens


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MisuseError(f"{path}: {error}") from error


def _check_tables(kind: type, table: Mapping[str, object], where: str) -> None:
    """Cyclopts would take a value that stands where a table belongs for the first field of that table."""
    for f in fields(kind):
        if is_dataclass(f.type) and not isinstance(table.get(f.name, {}), dict):
            raise MisuseError(f"{where}: {f.name} is a table: write its keys under [{f.name}]")
        if _is_list_of_tables(f.type) and not isinstance(table.get(f.name, []), list):
            raise MisuseError(f"{where}: {f.name} is a list of tables: write the keys of each under [[{f.name}]]")


def _explain(error: CycloptsError) -> str:
    if isinstance(error.__cause__, MisuseError):
        return str(error.__cause__)  # it says itself where that stands
    if isinstance(error, CoercionError) and error.argument and not error.token:
        # Too many or too few values for a pair, which cyclopts says without their key.
        places = {token.source for token in error.argument.tokens} - {"cli"}
        return ": ".join([*places, error.argument.name, str(error)])
    if not isinstance(error, UnknownOptionError) or error.token.source == "cli":
        return str(error)
    key = (error.token.keyword or "").strip("[]").replace("][", ".")
    known = [name.removeprefix("--") for argument in error.argument_collection for name in argument.names]
    nearest = difflib.get_close_matches(key, [name.replace("-", "_") for name in known], n=1)
    cure = f'did you mean "{nearest[0]}"?' if nearest else "its keys are the flags that --help lists"
    return f'{error.token.source}: unknown key "{key}"; {cure}'


def _fail(message: str, exit_code: int) -> int:
    sys.stderr.write(f"aligner: {visible(' '.join(message.splitlines()))}\n")
    return _drop_output(exit_code)


def _drop_output(exit_code: int) -> int:
    """Drop what standard output can no longer take, which Python would complain about when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exit_code


def _version() -> str:
    from importlib.metadata import version

    return version("aligner-llm")
