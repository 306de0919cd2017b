"""The warden: pid 1 around one program; it watches, tells, and ends, and then the kernel ends everything inside."""

# The calls of the system themselves, each as it stands:

import contextlib
import json
import os
import select
import signal
import time
from typing import Any

from .kernel import (
    FILES,
    NEW_IPC,
    NEW_MOUNT,
    NODEV,
    NOEXEC,
    NOSUID,
    READ_ONLY,
    RESIDENT,
    SET_DUMPABLE,
    TOKEN_SIZE,
    call,
    guarded,
    mount,
    size_of,
    write_to,
)
from .program import FAILURES, become_program

_TICK = 0.02
"""seconds between two looks at memory"""


def ward(asked: dict[str, Any], write: int) -> None:
    """Run one program in mounts of its own, and write what became of it."""
    call("prctl", SET_DUMPABLE, 0, 0, 0, 0)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)
    call("unshare", NEW_MOUNT | NEW_IPC)
    mount("proc", "/proc", flags=NOSUID | NODEV | NOEXEC)
    processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(OSError):  # not every kernel lets the owner of the namespace do it
        write_to("/proc/sys/kernel/shmall", "0")
    mount("tmpfs", FILES, f"mode=0700,nr_inodes=4096,size={asked['disk_bytes']}")
    mount("tmpfs", "/proc", "mode=0555,size=4k,nr_inodes=1", flags=NOSUID | NODEV | NOEXEC | READ_ONLY)
    os.chdir(FILES)
    (printed, out), (found, result) = os.pipe(), os.pipe()
    base = size_of(processes, "self", RESIDENT)
    begun = time.monotonic()
    program = os.fork()
    if program == 0:
        guarded(become_program, asked, out, result, processes)
    os.close(out)
    os.close(result)
    said = _watch(asked, program, printed=printed, found=found, processes=processes, base=base)
    os.write(write, json.dumps({**said, "seconds": time.monotonic() - begun}).encode())


def _watch(
    asked: dict[str, Any], program: int, *, printed: int, found: int, processes: int, base: int
) -> dict[str, Any]:
    """Until the program tells its result, ends, or does too much of something."""
    polled = select.poll()
    polled.register(printed, select.POLLIN)
    polled.register(found, select.POLLIN)
    deadline, said, output = time.monotonic() + asked["wall_seconds"], b"", 0
    while time.monotonic() < deadline:
        for file, _ in polled.poll(_TICK * 1000):
            piece = os.read(file, 65536)
            if not piece:
                polled.unregister(file)
            elif file == found:
                said += piece
            else:
                output += len(piece)
        if output > asked["output_bytes"] or len(said) > 65536:
            return {"reason": "output", "said": ""}
        if said.endswith(b"\n"):
            return _told(said)
        if (ended := _reap(program, asked["cpu_seconds"])) is not None:
            said += _rest(found)
            return _told(said) if said.endswith(b"\n") else ended if said else {"reason": "broken", "said": ""}
        if _memory(processes, base) > asked["memory_bytes"]:
            return {"reason": "memory", "said": ""}
    crowded = len(_pids(processes)) > asked["processes"] - 1
    return {"reason": "processes" if crowded else "timeout", "said": ""}


def _rest(found: int) -> bytes:
    os.set_blocking(found, False)
    with contextlib.suppress(OSError):
        return os.read(found, 65536)
    return b""


def _told(said: bytes) -> dict[str, Any]:
    """What the program's result says; only the token says that it ran to its end, and anything may say why not."""
    token, line = said[:TOKEN_SIZE], said[TOKEN_SIZE:]
    if line == token + b"\n":
        return {"reason": "", "said": ""}
    try:
        told = json.loads(line.partition(b"\n")[0])
        if (reason := str(told["reason"])) in FAILURES:
            return {"reason": reason, "said": str(told["said"])[:300]}
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return {"reason": "error", "said": "the program wrote over its result"}


def _reap(program: int, cpu_seconds: float) -> dict[str, Any] | None:
    """What the end of the program says, if it has ended; orphans are buried on the way."""
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return {"reason": "error", "said": "the program vanished"}
        if pid == 0:
            return None
        if pid == program:
            return _end_of(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime >= cpu_seconds - 0.1)


def _end_of(code: int, out_of_time: bool) -> dict[str, Any]:  # noqa: FBT001
    if code == -signal.SIGXCPU or out_of_time:
        return {"reason": "timeout", "said": ""}
    if code < 0:
        return {"reason": "error", "said": _signal_named(-code)}
    return {"reason": "error", "said": "ended before its tests"}


def _signal_named(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most of those for real time have no name
        return f"signal {number}"


def _pids(processes: int) -> list[str]:
    return [name for name in os.listdir(processes) if name.isdecimal() and name != "1"]


def _memory(processes: int, base: int) -> int:
    return sum(max(size_of(processes, pid, RESIDENT) - base, 0) for pid in _pids(processes))
