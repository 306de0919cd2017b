"""Laws of the Helm chart, of what Helm itself makes of it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from deploying import (
    CHART,
    ROOT,
    SECONDS_TO_END,
    Programs,
    image_environ,
    in_image,
    is_pinned,
    programs,
    ran,
    refused,
    rendered,
    served,
)

from aligner.config import ServeConfig

CASES = sorted((CHART / "ci").glob("*-values.yaml"))
NEWEST = "1.37.0"


@pytest.fixture(scope="module")
def tools() -> Programs:
    """The real tools."""
    return programs()


@pytest.fixture(scope="module", params=CASES, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> Path:
    """Values of one kind of installation."""
    return request.param


@pytest.fixture(scope="module")
def manifests(tools: Programs, case: Path) -> list[Any]:
    """What is installed with them."""
    return rendered(tools.helm, "--values", str(case))


def one(manifests: list[Any], kind: str) -> Any:
    """The manifest of that kind."""
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def pods(manifests: list[Any]) -> Iterator[Any]:
    """The specifications of all pods."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield manifest["spec"]
        elif "template" in manifest.get("spec", {}):
            yield manifest["spec"]["template"]["spec"]


def proxy(manifests: list[Any]) -> Any:
    """The proxy's container."""
    (container,) = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    return container


def test_the_schema_knows_the_options_as_the_command_does() -> None:
    """Each option that it describes is a flag of the command, with the same choices."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    hints = get_type_hints(ServeConfig)
    described = schema["properties"]["options"]["properties"]
    for name, rule in described.items():
        hint = hints[name.replace("-", "_")]
        wanted = rule.get("items", rule)
        known = schema["definitions"]["mode"] if "$ref" in wanted else wanted
        if "enum" in known:
            choices = get_args(get_args(hint)[0] if rule.get("type") == "array" else hint)
            assert set(known["enum"]) == set(choices), name
    own = schema["properties"]["options"]["propertyNames"]["not"]["enum"]
    assert {name.replace("-", "_") for name in own} - {"config"} <= set(hints)
    assert not set(own) & set(described)
    content = schema["properties"]["log"]["properties"]["content"]["enum"]
    assert set(content) == set(get_args(hints["log_content"]))


def test_the_schema_knows_all_values() -> None:
    """No value of the chart is without a rule, and no rule without a value, but for what other charts share."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(schema["properties"]) - {"global"} == set(values)
    assert schema["additionalProperties"] is False
    for name, rule in schema["properties"].items():
        if "properties" in rule and name != "options":
            assert rule["additionalProperties"] is False, name
            assert set(rule["properties"]) == set(values[name]), name


@pytest.mark.slow
def test_helm_finds_nothing_to_complain_of(tools: Programs, case: Path) -> None:
    """`helm lint --strict` passes."""
    assert "0 chart(s) failed" in ran(tools.helm, "lint", "--strict", CHART, "--values", case)


@pytest.mark.slow
def test_the_manifests_are_what_kubernetes_reads(tools: Programs, case: Path, tmp_path: Path) -> None:
    """Each is valid by the schemas, with no field that they do not know, for the newest and the oldest version."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    oldest = chart["kubeVersion"].removeprefix(">=").removesuffix("-0")
    has_image_volume = "image" in yaml.safe_load(case.read_text(encoding="utf-8")).get("checkpoint", {})
    for version in (NEWEST,) if has_image_volume else (NEWEST, oldest):
        text = ran(tools.helm, "template", "proxy", CHART, "--values", case, "--kube-version", version)
        known = [one for one in yaml.safe_load_all(text) if one and one["kind"] != "ServiceMonitor"]
        path = tmp_path / f"{version}.yaml"
        path.write_text(yaml.safe_dump_all(known), encoding="utf-8")
        said = ran(tools.kubernetes_validate, "--strict", "--kubernetes-version", version, path)
        assert said.count(" passed for resource ") == len(known), said


@pytest.mark.slow
def test_a_cluster_that_is_too_old_is_refused(tools: Programs, case: Path) -> None:
    """Helm says so before anything is installed."""
    assert "incompatible with Kubernetes" in refused(tools.helm, "--values", str(case), "--kube-version", "1.29.0")


@pytest.mark.slow
def test_the_arguments_are_options_of_the_command(
    manifests: list[Any], case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program reads and checks them, and finds what the values say; numbers are not rounded."""
    values = yaml.safe_load(case.read_text(encoding="utf-8"))
    container = proxy(manifests)
    config = served(container["args"], capsys)
    assert config["upstream"] == values["upstream"]
    assert config["port"] == container["ports"][0]["containerPort"] == int(in_image("EXPOSE")[0].value)
    for name, value in values.get("options", {"mode": "shadow"}).items():
        assert config[name.replace("-", "_")] == value, name
    for name, value in values.get("log", {}).items():
        if name in ("content", "days"):
            assert config[f"log_{name}"] == value
    assert config["log"] == values.get("log", {}).get("database", "")
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert config["aligner"] == values.get("aligner", mounted.get("checkpoint"))
    assert not config["log"].startswith("/") or Path(config["log"]).parent == Path(mounted["data"])


@pytest.mark.slow
def test_pods_meet_the_restricted_standard(manifests: list[Any]) -> None:
    """No root, no capability, no new privileges, a seccomp profile, no token, nothing writable, pinned images."""
    number = int(in_image("USER")[0].value.partition(":")[0])
    specifications = list(pods(manifests))
    assert len(specifications) == 2
    for pod in specifications:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == number
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert is_pinned(container["image"])
            assert "memory" in container["resources"]["limits"]
        allowed = {"configMap", "emptyDir", "image", "persistentVolumeClaim"}
        assert all((set(volume) - {"name"}) <= allowed for volume in pod.get("volumes", []))


@pytest.mark.slow
def test_volumes_and_mounts_agree_and_are_where_the_image_writes(manifests: list[Any]) -> None:
    """Every mount has its volume, every volume its mount; /tmp and the cache can be written, the checkpoint cannot."""
    spec = one(manifests, "Deployment")["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount for mount in proxy(manifests)["volumeMounts"]}
    assert sorted(mounts) == sorted(volume["name"] for volume in spec["volumes"])
    writable = {mount["mountPath"] for mount in mounts.values() if not mount.get("readOnly")}
    assert {"/tmp", image_environ()["XDG_CACHE_HOME"]} <= writable <= {"/tmp", "/cache", "/data"}  # noqa: S108
    assert "checkpoint" not in mounts or mounts["checkpoint"]["readOnly"] is True


@pytest.mark.slow
def test_secrets_are_nowhere_but_in_secrets(manifests: list[Any], case: Path) -> None:
    """Keys and passwords come from secrets that are there or that the values name, and stand in no other manifest."""
    keys = yaml.safe_load(case.read_text(encoding="utf-8"))["keys"]
    given = [value for name, value in keys.items() if name != "existingSecret"]
    others = json.dumps([manifest for manifest in manifests if manifest["kind"] != "Secret"])
    assert not [key for key in given if json.dumps(key)[1:-1] in others]
    made = {
        manifest["metadata"]["name"]: set(manifest["stringData"])
        for manifest in manifests
        if manifest["kind"] == "Secret"
    }
    assert bool(made) == bool(given)
    assert sorted(given) == sorted(v for m in manifests if m["kind"] == "Secret" for v in m["stringData"].values())
    sources = {variable["name"]: variable.get("valueFrom", {}) for variable in proxy(manifests)["env"]}
    reference = sources["ALIGNER_API_KEY"]["secretKeyRef"]
    assert reference["key"] in made.get(reference["name"], {"api-key"} if "existingSecret" in keys else ())
    assert not reference.get("optional")
    assert sources["ALIGNER_UPSTREAM_KEY"]["secretKeyRef"]["optional"] is True
    hidden = [name for name in sources if "KEY" in name or "PASSWORD" in name]
    assert all("secretKeyRef" in sources[name] for name in hidden)
    assert ("PGPASSWORD" in hidden) == ("postgresql:" in case.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_labels_find_the_pods_of_the_proxy_and_no_others(manifests: list[Any]) -> None:
    """Whatever selects pods selects the deployment's and not the test's; all carry the recommended labels."""
    template = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    test = one(manifests, "Pod")["metadata"]["labels"]
    selectors = [
        one(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
        one(manifests, "Service")["spec"]["selector"],
        *(m["spec"]["selector"]["matchLabels"] for m in manifests if m["kind"] == "PodDisruptionBudget"),
        *(m["spec"]["podSelector"]["matchLabels"] for m in manifests if m["kind"] == "NetworkPolicy"),
    ]
    for selector in selectors:
        assert selector.items() <= template.items()
        assert not selector.items() <= test.items()
    service = one(manifests, "Service")
    for monitor in (m for m in manifests if m["kind"] == "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    for manifest in manifests:
        if manifest["kind"] != "Pod":
            names = ("name", "instance", "version", "component", "managed-by")
            assert {f"app.kubernetes.io/{name}" for name in names} <= set(manifest["metadata"]["labels"])


@pytest.mark.slow
def test_a_pod_is_probed_and_given_time_to_end(manifests: list[Any]) -> None:
    """Alive is /healthz, ready is /readyz, at the port of the container; and what was begun can end."""
    container = proxy(manifests)
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness", "startup")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "liveness": "/healthz",
        "readiness": "/readyz",
        "startup": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == {container["ports"][0]["name"]}
    grace = one(manifests, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= container["lifecycle"]["preStop"]["sleep"]["seconds"] + SECONDS_TO_END


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"upstream": ""}, "/upstream"),
        ({"upstream": "https://user:pass@host/v1"}, "/upstream"),
        ({"checkpoint": {"existingClaim": ""}}, "which Aligner?"),
        ({"aligner": "demo"}, "leave aligner out"),
        ({"checkpoint": {"existingClaim": "a", "image": "b:1"}}, "not from both"),
        ({"checkpoint": {"existingClaim": "", "image": "registry.example.com:5000/b"}}, "/checkpoint/image"),
        ({"checkpoint": {"existingClaim": "", "image": "b:latest"}}, "/checkpoint/image"),
        ({"keys": {"existingSecret": ""}}, "clients need a key"),
        ({"keys": {"existingSecret": "a", "apiKey": "b"}}, "not from both"),
        ({"options": {"mode": False}}, "/options/mode"),
        ({"options": {"mode": "sometimes"}}, "/options/mode"),
        ({"options": {"host": "::"}}, "invalid propertyName 'host'"),
        ({"options": {"open_after": 1}}, "invalid propertyName 'open_after'"),
        ({"log": {"database": "postgresql://user:pass@host/name"}}, "/log/database"),
        ({"log": {"database": "postgresql://user@host/name?password=pass"}}, "/log/database"),
        ({"log": {"database": "/data/log.db"}}, "needs log.existingClaim"),
        ({"log": {"database": "/data/log.db", "existingClaim": "a"}}, "for one pod"),
        ({"image": {"tag": "latest"}}, "/image/tag"),
        ({"terminationGracePeriodSeconds": 49}, "at least secondsBeforeStop and 45 more"),
        ({"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": None}}, "autoscaling"),
        ({"replicas": 3}, "replicas"),
    ],
    ids=str,
)
def test_values_that_cannot_work_are_refused(
    tools: Programs, tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    """Helm says what is wrong and installs nothing; without that one value it would."""
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert reason in refused(tools.helm, "--values", str(CHART / "ci" / "minimal-values.yaml"), "--values", str(path))


@pytest.mark.slow
def test_the_command_in_the_guide_installs_the_chart(tools: Programs) -> None:
    """What it sets is enough, and the secret that it makes has the keys that pods ask for."""
    text = (ROOT / "docs" / "guides" / "deploy.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^helm install aligner deploy/helm/aligner (.*)$", text, re.MULTILINE)
    manifests = rendered(tools.helm, *line.split())
    (secret,) = re.findall(r"^kubectl create secret generic (\S+) (.*)$", text, re.MULTILINE)
    asked = {
        (variable["valueFrom"]["secretKeyRef"]["name"], variable["valueFrom"]["secretKeyRef"]["key"])
        for variable in proxy(manifests)["env"]
        if "valueFrom" in variable
    }
    assert asked == {(secret[0], key) for key in re.findall(r"--from-literal=([\w-]+)=", secret[1])}
