"""Code that models wrote, run where it can do no harm, and what became of it, by name.

Each program runs in user, mount, pid, ipc, uts and network namespaces of its own, never as root of the host's, with no
capability, no network, no file of the host that it could write, and none that it could read but the Python that runs
it. Time, memory, processes, open files, file sizes and output are limited, and when it ends everything that it started
ends with it. The kernel of Linux 5.14 or newer does all that; where it may not, nothing is run.
"""

import json
import os
import select
import subprocess
import sys
import sysconfig
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, NamedTuple, Self, cast

from aligner.errors import AlignerError, visible

_INSIDE = "; ".join(
    [
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})",
        "from inside.door import main",
        "del sys.path[0]",  # or code could import what lies beside it
        "main()",
    ]
)
_SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache")
_ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108 -- of the sandbox, private to one program
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": "/usr/bin:/bin",
    "PYTHONHASHSEED": "0",  # so that the same code prints sets in the same order
}
_GRACE = 20.0
_BROKEN = "broken"
_REASONS = {"", _BROKEN, *"timeout memory processes network files output error".split(), "wrong answer"}


class SandboxError(AlignerError):
    """Code of models cannot be run here without danger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may use, with everything that it starts."""

    cpu_seconds: float = 10.0
    wall_seconds: float = 40.0
    """longer than the processor's time, since the machine has other work, too"""
    memory_bytes: int = 4 << 30
    processes: int = 16
    files: int = 32
    """open at a time, for each process"""
    file_bytes: int = 4 << 20
    disk_bytes: int = 64 << 20
    """of all files together, which are in memory"""
    output_bytes: int = 1 << 20


class Program(NamedTuple):
    """Python code, and its limits."""

    code: str
    limits: Limits = Limits()


class Outcome(NamedTuple):
    """What became of a program."""

    reason: str
    """"" when it ran to its end, or else timeout, memory, processes, network, files, output, wrong answer (an assertion
    failed), or error"""
    said: str = ""
    """the first words of the error: text of the program's, so hostile"""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the program ran to its end."""
        return not self.reason


def run_programs(programs: Sequence[Program], *, workers: int | None = None) -> list[Outcome]:
    """The outcomes of programs, in their order, with so many at a time (as many as there are cores).

    Raises SandboxError where they cannot be shut in; nothing has been run then.
    """
    count = min(workers or len(os.sched_getaffinity(0)), len(programs)) if sys.platform == "linux" else 1
    with sandboxes(max(count, 1)) as run, ThreadPoolExecutor(max(count, 1)) as pool:
        return list(pool.map(run, programs))


class Run:
    """Runs a program in whichever sandbox is free; for as many threads as there are sandboxes."""

    def __init__(self, keepers: Sequence["_Keeper"]) -> None:
        self._free: SimpleQueue[_Keeper] = SimpleQueue()
        for keeper in keepers:
            self._free.put(keeper)

    def __call__(self, program: Program) -> Outcome:
        """What becomes of it."""
        keeper = self._free.get()
        try:
            return keeper.run(program)
        finally:
            self._free.put(keeper)


@contextmanager
def sandboxes(count: int = 1) -> Generator[Run, None, None]:
    """Sandboxes for any number of programs; SandboxError where one cannot be had or does not hold."""
    _check_system()
    with ExitStack() as stack:
        keepers = [stack.enter_context(_Keeper()) for _ in range(count)]
        found = keepers[0].run(Program(_PROBE))
        if not found.passed:
            raise _refusal(f"it does not hold: {visible(found.said) or found.reason}")
        yield Run(keepers)


def _check_system() -> None:
    if sys.platform != "linux":
        raise _refusal(f"that takes Linux, and this is {sys.platform}")
    release = os.uname().release
    major, minor = (int("".join(filter(str.isdecimal, part)) or 0) for part in release.split(".")[:2])
    if (major, minor) < (5, 14):
        raise _refusal(f"that takes Linux 5.14 or newer, and this is {release}")


def _refusal(why: str) -> SandboxError:
    return SandboxError(
        f"code of models is run in namespaces of its own or not at all, and here {why}; use a machine or a container "
        "that allows user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
    )


_PROBE = """
import os
assert 0 not in (os.getuid(), os.geteuid()), "it would be root"
assert not os.path.exists("/etc/shadow") and not os.path.exists("/proc/self"), "files of the host can be seen"
for path in ("/", "/dev", "/usr/lib"):
    assert not os.access(path, os.W_OK), f"{path} can be written"
assert os.getpid() == 2, "processes of the host can be seen"
import socket
try:
    socket.socket()
    raise AssertionError("there is a network")
except OSError:
    pass
children = []
try:
    while len(children) < 100:
        children.append(os.fork())
        if not children[-1]:
            os.read(os.pipe()[0], 1)
except BlockingIOError:
    pass
assert len(children) < 100, "the number of processes is not limited"
"""


class _Keeper:
    """One sandbox, which runs one program at a time; it is made anew when it breaks."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Make the sandbox."""
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything in it."""
        self._end()

    def run(self, program: Program) -> Outcome:
        """What becomes of a program; SandboxError where the sandbox breaks twice."""
        found = self._try(program)
        if found.reason == _BROKEN:
            self._end()
            found = self._try(program)
        if found.reason == _BROKEN:
            raise SandboxError("the sandbox for code broke twice with one program; has the machine memory left?")
        return found

    def _try(self, program: Program) -> Outcome:
        process = self._process or self._start()
        try:
            _send(process.stdin, {"code": program.code, **asdict(program.limits)})
            found = _receive(process.stdout, program.limits.wall_seconds + _GRACE)
        except OSError:
            return Outcome(_BROKEN)
        reason = str(found["reason"])
        return Outcome(reason if reason in _REASONS else "error", str(found["said"]), float(found["seconds"]))

    def _start(self) -> subprocess.Popen[bytes]:
        # Not isolated (-I), which would not heed the seed of hashes: the environment is ours, and has nothing else.
        command = [sys.executable, "-P", "-s", "-S", "-B", "-c", _INSIDE, json.dumps(_setup())]
        self._process = process = subprocess.Popen(  # noqa: S603 -- our own program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        try:
            said = _receive(process.stdout, 60.0)
        except OSError as error:
            self._end()
            raise _refusal("it broke at its start") from error
        if "refused" in said:
            self._end()
            raise _refusal(f"the kernel does not allow it ({said['refused']})")
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what it was not sent while it died cannot be sent now
                    cast(IO[bytes], pipe).close()


def _setup() -> dict[str, object]:
    """What can be seen inside, all of it read-only: libraries of the system, Python's own, and numpy."""
    prefix = sys.base_prefix
    own = [*_SYSTEM, f"{prefix}/lib", f"{prefix}/lib64", sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    numpy = find_spec("numpy")
    folder = Path(numpy.origin).parent if numpy and numpy.origin else None
    packages = [folder, folder.with_name("numpy.libs")] if folder else []
    found = {os.path.realpath(path) if path not in _SYSTEM else path for path in map(str, [*own, *packages])}
    seen = [path for path in sorted(found) if Path(path).exists() and not Path(path).is_symlink()]
    tops = [path for path in seen if not any(path.startswith(f"{other}/") for other in seen)]
    return {"visible": tops, "packages": [str(folder.parent)] if folder else [], "imports": ["numpy"] if folder else []}


def _send(pipe: IO[bytes] | None, asked: dict[str, Any]) -> None:
    text = json.dumps(asked).encode()
    cast(IO[bytes], pipe).write(len(text).to_bytes(4, "big") + text)
    cast(IO[bytes], pipe).flush()


def _receive(pipe: IO[bytes] | None, seconds: float) -> dict[str, Any]:
    file, deadline = cast(IO[bytes], pipe).fileno(), time.monotonic() + seconds
    size = int.from_bytes(_read(file, 4, deadline), "big")
    return json.loads(_read(file, size, deadline))


def _read(file: int, size: int, deadline: float) -> bytes:
    text = b""
    while len(text) < size:
        polled = select.poll()
        polled.register(file, select.POLLIN)
        if not polled.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise TimeoutError
        if not (piece := os.read(file, size - len(text))):
            raise BrokenPipeError
        text += piece
    return text
