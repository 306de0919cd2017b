"""The image, the compose file and their guide hold together, and real tools read them."""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from contained import contained
from deploying import (
    CHART,
    COMPOSE,
    ROOT,
    SECONDS_TO_END,
    compose_variables,
    composed,
    dockerfile,
    image_environ,
    in_image,
    is_pinned,
    programs,
    ran,
    seconds,
    served,
)

GUIDE = ROOT / "docs" / "guides" / "deploy.md"
GIVEN = {
    "UPSTREAM": "https://api.openai.com/v1",
    "CHECKPOINT": str(ROOT),
    "ALIGNER_API_KEY": "for-this-test-only",
    "POSTGRES_PASSWORD": "for-this-test-only",
}
SECRET = re.compile(r"KEY|PASSWORD|SECRET|TOKEN")


def test_the_image_runs_as_a_user_that_is_not_root() -> None:
    """The user is a number, as Kubernetes needs it to see that, and the one for whom the folders were made."""
    (user,) = in_image("USER")
    number, group = user.value.split(":")
    assert int(number) > 0
    assert int(group) > 0
    (making,) = in_image("RUN")
    assert f"--uid {number} " in making.value
    assert f"--gid {group} " in making.value


def test_signals_reach_the_program_and_no_shell_stands_between() -> None:
    """What starts and what examines the container are lists of words, and so is what it does by itself."""
    assert in_image("ENTRYPOINT")[0].words == ["aligner"]
    assert in_image("CMD")[0].words[0] == "serve"
    (health,) = in_image("HEALTHCHECK")
    command = json.loads(health.value.partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")
    assert "/readyz" in command[2]


def test_nothing_is_built_or_installed_in_the_last_stage() -> None:
    """It takes the environment from the stage before, and every base is named once and pinned."""
    assert [one.value for one in in_image("COPY")] == ["--from=build /opt/aligner /opt/aligner"]
    assert not any(re.search(r"\b(pip|apt-get|gcc|make|curl)\b", one.value) for one in in_image("RUN"))
    assert {one.value.split()[0] for one in dockerfile() if one.name == "FROM"} == {"${BASE}"}
    (base,) = (one.value.partition("=")[2] for one in dockerfile() if one.value.startswith("BASE="))
    assert is_pinned(base)
    installs = [one.value for one in dockerfile() if " install " in one.value and "pip" in one.value]
    assert installs
    assert all("--constraint constraints.txt" in one for one in installs)


def test_the_builder_is_given_what_is_copied_and_nothing_else() -> None:
    """The ignore file lets through the sources of all COPY instructions, which exist."""
    copied = {
        word
        for one in dockerfile()
        if one.name == "COPY" and not one.value.startswith("--from")
        for word in one.value.split()[:-1]
    }
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_all_speak_of_one_version_one_port_and_one_user() -> None:
    """The package, the image's name in all files, the chart, the ports and the user's number agree."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == version
    assert compose_variables()["ALIGNER_IMAGE"] == f"{values['image']['repository']}:{version}"
    assert f"docker build --tag aligner:{version} ." in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (port,) = (one.value for one in in_image("EXPOSE"))
    assert composed(GIVEN)["services"]["proxy"]["ports"] == [f"127.0.0.1:8080:{port}"]
    assert f"127.0.0.1', {port}" in in_image("HEALTHCHECK")[0].value
    number, _, group = in_image("USER")[0].value.partition(":")
    security = values["podSecurityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (int(number), int(group))


def test_compose_starts_the_proxy_with_options_that_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    """Its arguments are read and checked as the program does it; paths and names are those of the file itself."""
    services = composed(GIVEN)["services"]
    config = served(services["proxy"]["command"], capsys)
    assert config["upstream"] == GIVEN["UPSTREAM"]
    assert config["host"] == "0.0.0.0"  # noqa: S104  # in a container
    (checkpoint,) = (volume for volume in services["proxy"]["volumes"] if isinstance(volume, dict))
    assert (checkpoint["target"], checkpoint["read_only"]) == (config["aligner"], True)
    database = services["database"]["environment"]
    assert config["log"] == f"postgresql://{database['POSTGRES_USER']}@database/{database['POSTGRES_DB']}"
    assert services["proxy"]["environment"]["PGPASSWORD"] == database["POSTGRES_PASSWORD"]


def test_no_service_may_do_more_than_it_has_to() -> None:
    """No capability, no new privileges, nothing writable but what is named, and nothing that listens to the world."""
    for name, service in composed(GIVEN)["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert is_pinned(service["image"]), name
        assert any(mount.startswith("/tmp:") for mount in service["tmpfs"]), name  # noqa: S108
        assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert seconds(service["stop_grace_period"]) >= SECONDS_TO_END, name
    assert composed(GIVEN)["networks"]["back"]["internal"] is True
    assert composed(GIVEN)["services"]["database"]["networks"] == ["back"]


def test_what_the_image_needs_to_write_is_writable() -> None:
    """The cache that the image names is a volume, and so are the folders of the database."""
    services = composed(GIVEN)["services"]
    cache = image_environ()["XDG_CACHE_HOME"]
    assert f"cache:{cache}" in services["proxy"]["volumes"]
    assert cache in in_image("RUN")[0].value.split()
    user = services["database"]["user"].split(":")
    (socket,) = (mount for mount in services["database"]["tmpfs"] if mount.startswith("/var/run/postgresql:"))
    assert f"uid={user[0]},gid={user[1]}" in socket


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_what_has_no_default_has_to_be_given(name: str) -> None:
    """Without it the compose file says what is missing; no secret has a default, here or in the chart."""
    variables = compose_variables()
    assert [one for one, default in variables.items() if SECRET.search(one) and default is not None] == []
    assert {one for one, default in variables.items() if default is None} == set(GIVEN)
    with pytest.raises(AssertionError, match=f"^{name}: ."):
        composed({**GIVEN, name: ""})
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(values["keys"].values()) == {""}


def test_the_guide_lists_what_has_to_be_given() -> None:
    """Every variable without a default is in its example, which is no real key, and every file that it names exists."""
    text = GUIDE.read_text(encoding="utf-8")
    (listed,) = re.findall(r"```dotenv\n(.*?)```", text, re.DOTALL)
    assert (
        set(GIVEN)
        <= set(re.findall(r"^(\w+)=", listed, re.MULTILINE))
        <= {*compose_variables(), "ALIGNER_UPSTREAM_KEY"}
    )
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (GUIDE.parent / target).exists(), target
    for path in re.findall(r"`((?:deploy|src|tests)/[\w./-]+)`", text):
        assert path == "deploy/.env" or (ROOT / path).exists(), path


def test_the_container_in_the_guide_starts(capsys: pytest.CaptureFixture[str]) -> None:
    """Its arguments are options of the program, what they name is mounted, and only the log's folder is writable."""
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^docker run (.*)$", text, re.MULTILINE)
    docker, _, arguments = line.partition(compose_variables()["ALIGNER_IMAGE"] or "no image")
    config = served(shlex.split(arguments), capsys)
    words = shlex.split(docker)
    volumes = [value.split(":")[1:] for flag, value in itertools.pairwise(words) if flag == "--volume"]
    assert [config["aligner"], "ro"] in volumes
    assert [str(Path(config["log"]).parent)] in volumes
    assert [image_environ()["XDG_CACHE_HOME"]] in volumes
    assert {"--read-only", "ALIGNER_API_KEY"} <= set(words)
    assert {("--tmpfs", "/tmp"), ("--cap-drop", "ALL")} <= set(itertools.pairwise(words))  # noqa: S108


@pytest.mark.slow
def test_hadolint_finds_nothing() -> None:
    """No finding of any weight in the Dockerfile; and it does find what is wrong with a bad one."""
    hadolint = programs().hadolint
    ran(hadolint, "--failure-threshold", "style", "Dockerfile")
    bad = subprocess.run([hadolint, "-"], input="FROM python\nRUN cd /tmp\n", capture_output=True, text=True)
    assert bad.returncode == 1
    assert "DL3006" in bad.stdout


@pytest.mark.slow
def test_docker_compose_reads_the_file_as_we_do() -> None:
    """The real program fills in and checks the same services, and refuses when something is missing."""
    compose = programs().compose
    plain = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    command = (compose, "--file", COMPOSE, "config", "--format", "json")
    read: dict[str, Any] = json.loads(ran(*command, environ={**plain, **GIVEN}))
    ours = composed(GIVEN)["services"]
    assert set(read["services"]) == set(ours)
    for name, service in read["services"].items():
        assert service.get("command") == ours[name].get("command")
        assert service["environment"] == ours[name]["environment"]
        assert seconds(service["stop_grace_period"]) == seconds(ours[name]["stop_grace_period"])
    assert Path(read["services"]["proxy"]["build"]["context"]) == ROOT
    missing = subprocess.run(command, capture_output=True, text=True, env=plain)
    assert missing.returncode != 0
    assert "is missing a value" in missing.stderr


@pytest.mark.slow
def test_what_is_copied_makes_the_whole_package(tmp_path: Path) -> None:
    """The wheel from the builder's files alone has the verb, the Aligner that ships, configurations and pages."""
    context = tmp_path / "context"
    context.mkdir()
    for one in dockerfile():
        if one.name == "COPY" and not one.value.startswith("--from"):
            for name in one.value.split()[:-1]:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
                else:
                    shutil.copy(ROOT / name, context)
    ran(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, context)
    (wheel,) = tmp_path.glob("aligner_llm-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    assert {"aligner/serve.py", "aligner/assets/aligner/aligner.json", "aligner/configs/demo.toml"} <= names
    pages = [path for kind in ("templates", "static") for path in (ROOT / "src/aligner/serving" / kind).iterdir()]
    assert {str(path.relative_to(ROOT / "src")) for path in pages} <= names
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.mark.slow
def test_the_command_runs_as_the_image_runs_it() -> None:
    """With nothing writable but /tmp and its two folders: it gets healthy, keeps a log, and ends when told to."""
    health = json.loads(in_image("HEALTHCHECK")[0].value.partition("CMD ")[2])
    health[0] = sys.executable
    places = {name: value.replace("/cache", "/mnt/cache") for name, value in image_environ().items() if name != "PATH"}
    environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ALIGNER_API_KEY": "k", **places}
    options = "--host=0.0.0.0 --upstream=http://127.0.0.1:9/v1 --aligner=demo --log=/mnt/data/corrections.db".split()
    with contained(*in_image("ENTRYPOINT")[0].words, "serve", *options, environ=environ) as (pid, enter):
        assert subprocess.run([*enter, *health], capture_output=True).returncode != 0
        end = time.monotonic() + 120
        while subprocess.run([*enter, *health], capture_output=True).returncode != 0:
            assert time.monotonic() < end, "it did not get healthy"
            assert Path(f"/proc/{pid}").exists(), "it ended"
        status = dict(
            line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert set(status["Uid"].split()) == {in_image("USER")[0].value.partition(":")[0]}
        assert status["NSpid"].split()[-1] == "1"
        assert (int(status["CapEff"], 16), int(status["CapBnd"], 16)) == (0, 0)
        look = "test -s /mnt/data/corrections.db && test -d /mnt/cache/aligner && ! touch /x && ! touch /etc/x"
        assert subprocess.run([*enter, "sh", "-c", look], capture_output=True).returncode == 0
        os.kill(pid, 15)
