"""What the proxy's benchmark compares, each as a process of its own on loopback."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from environments import LITELLM, python_of
from proxy_load import in_turn
from proxy_relay import UPSTREAM
from proxy_upstream import MODEL

_HERE = Path(__file__).parent
_SECONDS_TO_START = 120.0
_SECONDS_TO_END = 10.0


class Arm(NamedTuple):
    """A server, and the process of it."""

    name: str
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """What it has used so far of processors, user and system together, without an engine."""
        # The number of another process's clock, as the C library's clock_getcpuclockid makes it: /proc counts in
        # hundredths of a second.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self._processes())

    def megabytes(self) -> float:
        """The memory that it holds, without an engine."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) for pid in self._processes()]
        return sum(pages) * resource.getpagesize() / 2**20

    def _processes(self) -> list[int]:
        return [pid for pid in _tree(self.pid) if b"aligner.engine" not in _command(pid)]


class _Started(NamedTuple):
    arm: Arm
    process: subprocess.Popen[bytes]
    log: Path


def litellm_python() -> Path:
    """The Python of LiteLLM's environment, which is made first where there is none."""
    return python_of("litellm", LITELLM)


@contextmanager
def arms(litellm: Path, folder: Path) -> Generator[Mapping[str, Arm], None, None]:
    """All servers, ready; they are ended with the block, however that ends."""
    with ExitStack() as stack:

        def start(name: str, port: int, command: Sequence[str], **variables: str) -> _Started:
            log = folder / f"{name}.log"
            process = stack.enter_context(_process(command, variables, log))
            return _Started(Arm(name, port, process.pid), process, log)

        upstream, relay, off, correct, peer = (_free_port() for _ in range(5))
        url = f"http://127.0.0.1:{upstream}"
        config = folder / "litellm.yaml"
        config.write_text(json.dumps(_litellm_config(url)), encoding="utf-8")
        python, told = sys.executable, {"PYTHONPATH": str(_HERE)}
        started = [
            start(
                "direct", upstream, [python, "-c", f"import proxy_upstream; proxy_upstream.serve({upstream})"], **told
            ),
            start("relay", relay, [python, *_uvicorn(relay)], **told, **{UPSTREAM: url}),
            start("off", off, [python, *_aligner(url, off, "off")]),
            start("correct", correct, [python, *_aligner(url, correct, "correct")]),
            start("litellm", peer, [str(litellm.with_name("litellm")), *_litellm(config, peer)], **_LITELLM_VARIABLES),
        ]
        for server in started:
            _wait_for(server)
        yield {server.arm.name: server.arm for server in started}


def _uvicorn(port: int) -> list[str]:
    how = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return ["-m", "uvicorn", "--factory", "proxy_relay:relay", "--port", str(port), *how]


def _aligner(url: str, port: int, mode: str) -> list[str]:
    options = {"upstream": f"{url}/v1", "port": str(port), "mode": mode, "aligner": "echo:"}
    return ["-m", "aligner", "serve", *(part for name, value in options.items() for part in (f"--{name}", value))]


def _litellm(config: Path, port: int) -> list[str]:
    # Uvicorn with one worker is what it starts by default, and what its guide recommends for production.
    return ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]


def _litellm_config(url: str) -> Mapping[str, object]:
    """One model; no keys, as ours has none, no database, no callbacks, no cache."""
    model = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": model}],
        "litellm_settings": {"set_verbose": False, "request_timeout": 600},
        "general_settings": {"disable_spend_logs": True, "dangerously_permit_weak_or_unset_master_key": True},
    }


_LITELLM_VARIABLES = {
    # Of its guide for production: no .env file is read, and the access log is off.
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    # Nothing is fetched from elsewhere.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
}


@contextmanager
def _process(
    command: Sequence[str], variables: Mapping[str, str], log: Path
) -> Generator[subprocess.Popen[bytes], None, None]:
    """A program that is ended, with all that it has started, at the end of the block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ALIGNER_", "LITELLM_"))}
    environ = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")} | dict(variables)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environ, start_new_session=True
        )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_TO_END)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for(server: _Started) -> None:
    """Until it answers; ends the benchmark, with the server's last words, where it does not."""
    last, problem = time.monotonic() + _SECONDS_TO_START, "it has not begun to listen"
    while time.monotonic() < last and server.process.poll() is None:
        try:
            asyncio.run(asyncio.wait_for(in_turn(server.arm.port, 1), _SECONDS_TO_START))
        except (OSError, ValueError) as error:
            problem = str(error)
            time.sleep(0.2)
        else:
            return
    said = server.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    sys.exit("\n".join([f"{server.arm.name} does not answer: {problem}", *said]))


def _tree(pid: int) -> list[int]:
    """A process, and all that it has started."""
    children = [path.read_text(encoding="ascii").split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [pid, *(found for names in children for name in names for found in _tree(int(name)))]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
