"""Code that means harm does none, and is called by its name."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contained import contained
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.tasks.sandbox import Limits, Program, Run, SandboxError, run_programs, sandboxes

LEFT = "/tmp/left-by-a-program"  # noqa: S108 -- inside the sandbox
SMALL = Limits(cpu_seconds=1, wall_seconds=5, memory_bytes=200 << 20)
SHORT = Limits(cpu_seconds=1, wall_seconds=0.5, memory_bytes=200 << 20)
"""for what would wait to the end"""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    try:
        with sandboxes() as running:
            yield running
    except SandboxError as error:
        pytest.skip(str(error))


def children() -> set[int]:
    """All processes that this one has started, however deep."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


HARM = {
    "endless loop": ("timeout", "while True: pass"),
    "endless sleep": ("timeout", "import time\ntime.sleep(1000)"),
    "deaf to signals": (
        "timeout",
        "import signal as s, time\nfor n in s.valid_signals() - {9, 19}: s.signal(n, s.SIG_IGN)\ntime.sleep(1000)",
    ),
    "fork bomb": ("processes", "import os\nwhile True: os.fork()"),
    "fork bomb that hides it": (
        "processes",
        "import os\nwhile True:\n try: os.fork()\n except OSError: pass",
    ),
    "threads": (
        "processes",
        "import threading, time\nfor _ in range(999): threading.Thread(target=time.sleep, args=(99,)).start()",
    ),
    "one big allocation": ("memory", "x = bytearray(1 << 33)"),
    "many small ones": ("memory", "x = []\nwhile True: x.append(bytearray(1 << 20))"),
    "memory in many processes": (
        "memory",
        "import os, time\nfor _ in range(8): os.fork() or [bytearray(b'x' * (60 << 20)), time.sleep(9)]\ntime.sleep(9)",
    ),
    "write outside": ("files", "open('/usr/lib/python3/x', 'w')"),
    "write to the root": ("files", "open('/x', 'w')"),
    "passwords": ("files", "open('/etc/shadow').read()"),
    "processes of the host": ("files", "open('/proc/1/environ').read()"),
    "a big file": ("files", "open('x', 'wb').write(bytes(1 << 27))"),
    "many files": ("files", "x = [open(str(i), 'w') for i in range(999)]"),
    "a full disk": ("files", "for i in range(99): open(str(i), 'wb').write(bytes(3 << 20))"),
    "the internet": ("network", "import socket\nsocket.create_connection(('1.1.1.1', 80), 5)"),
    "the host": ("network", "import socket\nsocket.create_connection(('127.0.0.1', 22), 5)"),
    "a name": ("network", "import urllib.request\nurllib.request.urlopen('http://example.com')"),
    "flood": ("output", "while True: print('x' * 100000)"),
    "flood of errors": ("output", "import os\nwhile True: os.write(2, b'x' * 100000)"),
    "exit": ("error", "import sys\nsys.exit(0)"),
    "hard exit": ("error", "import os\nos._exit(0)"),
    "crash": ("error", "import ctypes\nctypes.string_at(0)"),
    "suicide": ("error", "import os\nos.kill(os.getpid(), 9)"),
    "a signal without a name": ("error", "import os\nos.kill(os.getpid(), 35)"),
    "limits of what guards it": (
        "error",
        "import resource as r, time\nr.setrlimit(r.RLIMIT_CORE, (0, 0))\nr.prlimit(1, r.RLIMIT_NOFILE, (0, 0))",
    ),
    "daemon": (
        "error",
        "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\nos.fork()\nwhile True: time.sleep(1)",
    ),
    "bad syntax": ("error", "def f(:"),
    "wrong": ("wrong answer", "assert 1 + 1 == 3"),
}
WAITING = ("endless sleep", "deaf to signals", "fork bomb that hides it")


@pytest.mark.parametrize("name", HARM)
def test_harm_is_survived_and_named(run: Run, name: str) -> None:
    """Whatever code does, it is stopped, called by its name, nothing of it is left, and the next program runs."""
    reason, code = HARM[name]
    before = children()
    assert run(Program(code, SHORT if name in WAITING else SMALL)).reason == reason
    assert children() == before
    assert run(Program("assert 1 + 1 == 2")).passed


FORGED = {
    "broken": ("error", 'import os\nos.write(100, b\'{"reason":"broken","said":""}\\n\')'),
    "no known reason": ("error", 'import os\nos.write(100, b\'{"reason":"lunch","said":""}\\n\')'),
    "no object": ("error", "import os\nos.write(100, b'[' * 60000 + b'\\n')"),
    "passed": ("error", 'import os\nos.write(100, b\'{"reason":"","said":""}\\n\')\nassert False'),
    "passed, in other words": (
        "error",
        'import json\njson.dumps = lambda _: \'{"reason":"","said":""}\'\nassert False',
    ),
    "passed, with another token": (
        "error",
        "import os\nos.write(100, b'0' * 32 + b'\\n')\nassert False",
    ),
    "passed, by the runner itself": (
        "error",
        "import sys\nsys.modules['inside.program']._run('', 100)\nassert False",
    ),
    "passed, with a runner that knows no failure": (
        "error",
        "import sys\nsys.modules['inside.program']._name_of = lambda _: ('', '')\nassert False",
    ),
    "passed, with a token that is looked for": (
        "wrong answer",
        """
import gc, os, sys
frame, seen = sys._getframe(), []
while frame:
    seen += [frame, *frame.f_locals.values()]
    frame = frame.f_back
seen += gc.get_objects()
for held in [*seen, *gc.get_referents(*seen)]:
    if isinstance(held, bytes) and len(held) in (32, 33) and not held.strip(b"0123456789abcdef\\n"):
        os.write(100, held.strip() + b"\\n")
assert False
""",
    ),
    "passed, with a token that is waited for": (
        "wrong answer",
        """
import os
write, kept = os.write, os.dup(100)
os.write = lambda file, text: write(kept, text[:32] + b"\\n" if text[:32].isalnum() else text)
assert False
""",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_result_cannot_be_written_by_code(run: Run, name: str) -> None:
    """What code writes where its result belongs never says that it passed, nor that the sandbox broke."""
    reason, code = FORGED[name]
    assert run(Program(code, SMALL)).reason == reason
    assert run(Program("assert 1 + 1 == 2")).passed


def test_a_copy_of_a_program_tells_no_result(run: Run) -> None:
    """Only the end of the process that began counts, whether a copy of it ends well or badly."""
    assert run(Program("import os\nif os.fork() == 0: assert False\nos.wait()")).passed
    assert run(Program("import os\nif os.fork(): os.wait(); assert False")).reason == "wrong answer"


def test_signals_are_named(run: Run) -> None:
    """By their names, or by their numbers where they have none."""
    found = [run(Program(f"import os\nos.kill(os.getpid(), {number})")).said for number in (11, 35)]
    assert found == ["SIGSEGV", "signal 35"]


def test_a_sandbox_that_died_is_made_anew(run: Run) -> None:
    """Whatever ended it, and whatever it had not been sent yet, the program runs in a new one."""
    assert run
    others = children()
    with sandboxes() as running:
        started = children() - others
        for pid in started:
            os.kill(pid, signal.SIGKILL)
        while any(map(_exists, started)):
            time.sleep(0.01)
        assert running(Program("assert 1 + 1 == 2")).passed
    assert children() == others


def test_what_guards_code_cannot_be_harmed_by_it(run: Run) -> None:
    """Its parent cannot be killed, stopped, read or traced, and no capability or namespace can be had."""
    found = run(
        Program(
            """
import ctypes, os, signal
CALLS = {  # memfd_create, keyctl, shmget, io_uring_setup, bpf
    "x86_64": {319: (b"x", 0), 250: (1, None), 29: (0, 4096, 0o1600), 425: (1, None), 321: (0, None, 0)},
    "aarch64": {279: (b"x", 0), 219: (1, None), 194: (0, 4096, 0o1600), 425: (1, None), 280: (0, None, 0)},
}
libc = ctypes.CDLL(None, use_errno=True)
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
    os.kill(1, number)
assert libc.ptrace(16, 1, 0, 0) == -1, "traced"
vector = (ctypes.c_ulong * 2)(id(libc), 8)
assert libc.process_vm_readv(1, vector, 1, vector, 1, 0) == -1, "read"
for flag in (0x10000000, 0x20000000, 0x00020000, 0x40000000):
    assert libc.unshare(flag) == -1, "namespace"
assert libc.mount(b"t", b"/tmp", b"tmpfs", 0, b"") == -1 and libc.umount2(b"/proc", 2) == -1, "mount"
assert libc.setresuid(0, 0, 0) == -1 and libc.chroot(b"/tmp") == -1, "root"
for number, arguments in CALLS[os.uname().machine].items():
    assert libc.syscall(number, *arguments) == -1, number
assert os.getuid() == 65534 and os.listdir("/proc") == [], "seen"
assert not os.environ.keys() - {"HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "PYTHONHASHSEED",
                               "LC_CTYPE"}, "environment"
"""
        )
    )
    assert found.passed, found


def test_nothing_of_a_user_can_be_seen(run: Run, tmp_path: Path) -> None:
    """Neither the home, nor this project, nor a file that a test has just made, nor those of an earlier program."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    code = "import os\nassert not any(os.path.exists(path) for path in {})\nopen('/tmp/left-by-a-program', 'w').close()"
    hidden = [secret, Path.home() / ".ssh", __file__, Path(__file__).parents[2] / "src", "/etc/passwd", "/home"]
    program = Program(code.format([*map(str, hidden), LEFT]))
    assert [run(program).reason for _ in range(2)] == ["", ""]
    assert not Path(LEFT).exists()


def test_useful_code_runs() -> None:
    """Many programs at once come back in order, with numpy, files of their own, data classes and no script's part."""
    code = (
        "from dataclasses import dataclass\nimport numpy\n@dataclass\nclass A: x: int\n"
        "open('f', 'w').write('1')\nassert A({0}).x == {0} and numpy.ones(3).sum() == 3 and open('f').read() == '1'\n"
        "if __name__ == '__main__': input()\nassert {0} % 5"
    )
    try:
        found = run_programs([Program(code.format(number)) for number in range(20)], workers=2)
    except SandboxError as error:
        pytest.skip(str(error))
    assert [outcome.reason for outcome in found] == ["" if number % 5 else "wrong answer" for number in range(20)]


@settings(max_examples=20)
@given(st.text())
def test_any_text_has_an_outcome(run: Run, code: str) -> None:
    """Whatever text is taken for code, it ends, and with one of the known names."""
    known = {"", "timeout", "memory", "processes", "network", "files", "output", "wrong answer", "error"}
    assert run(Program(code, SMALL)).reason in known


def test_code_of_a_dead_caller_dies(run: Run) -> None:
    """When the caller is killed, so is everything that it ran."""
    assert run
    caller = subprocess.Popen(
        [sys.executable, "-c", "from aligner.tasks.sandbox import *; run_programs([Program('while True: pass')])"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )
    deadline = time.monotonic() + 20
    while len(running := _below(caller.pid)) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    while any(map(_exists, running)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(running) >= 4
    assert not any(map(_exists, running))


def _below(pid: int) -> list[int]:
    found: list[int] = []
    for children_of in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(child) for child in children_of.read_text().split()]
        except OSError:
            continue
        found += [*direct, *(deeper for child in direct for deeper in _below(child))]
    return found


def _exists(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


_ELSEWHERE = """
import sys
sys.path.insert(0, {source!r})
from aligner.tasks.sandbox import Limits, Program, SandboxError, run_programs
codes = ["assert 1 + 1 == 2", "import os\\nwhile True: os.fork()", "open('/etc/shadow')"]
try:
    found = [outcome.reason for outcome in run_programs([Program(code, Limits(wall_seconds=5)) for code in codes])]
except SandboxError as error:
    found = str(error)
assert {expected}, found
"""


def _elsewhere(expected: str) -> list[str]:
    source = str(Path(__file__).parents[2] / "src")
    return [sys.executable, "-B", "-c", _ELSEWHERE.format(source=source, expected=expected)]


@pytest.mark.slow
def test_it_holds_for_an_ordinary_user_in_a_container(run: Run) -> None:
    """Without root and without any capability the same is survived, and named the same."""
    assert run
    with contained(*_elsewhere('found == ["", "processes", "files"]'), environ=dict(os.environ)):
        pass


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("echo 0 > /proc/sys/user/max_user_namespaces", "no user namespaces are left"),
        ("true", "the number of processes is not limited"),
    ],
    ids=["forbidden", "root in disguise"],
)
def test_it_refuses_where_it_cannot_be_had(run: Run, before: str, words: str) -> None:
    """Where namespaces are forbidden, or would be those of the host's root, nothing is run, and one line says why."""
    assert run
    if os.geteuid() != 0:
        pytest.skip("only root can be root in disguise")
    expected = f'"{words}" in found and "\\n" not in found'
    shut = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{before}; exec "$@"', "sh"]
    done = subprocess.run([*shut, *_elsewhere(expected)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
