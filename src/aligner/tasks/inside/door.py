"""The door: makes the namespaces and a root of its own, gives up root, and waits."""

# The calls of the system themselves, each as it stands:
# ruff: noqa: PTH103, PTH112, PTH114, PTH115, PTH120, PTH123, PTH211

import errno
import json
import os
import signal
import sys
from typing import Any, NoReturn

from .keeper import keep
from .kernel import (
    ALL_NEW,
    BIND,
    DETACH,
    FILES,
    LIBC,
    NEW_MOUNT,
    NOBODY,
    O_PATH,
    PRIVATE,
    REC,
    SET_DEATH_SIGNAL,
    call,
    close_to_writing,
    guarded,
    map_user,
    mount,
    tell,
)

_KEYCTL = {"x86_64": 250, "aarch64": 219}


def main() -> None:
    """Shut in, or say on standard output why that cannot be had."""
    answers = os.dup(1)
    os.dup2(2, 1)
    setup = json.loads(sys.argv[1])
    try:
        _door(setup, answers)
    except OSError as error:
        exhausted = error.errno == errno.ENOSPC  # the kernel's word for a limit of namespaces
        tell(answers, {"refused": "no user namespaces are left" if exhausted else f"{error.strerror or error}"})
        os._exit(1)


def _door(setup: dict[str, Any], answers: int) -> NoReturn:
    if (keyctl := _KEYCTL.get(os.uname().machine)) is not None:
        LIBC.syscall(keyctl, 1, None)  # a session keyring of its own: the user's may hold secrets
    _shut_in(setup["visible"])
    pid = os.fork()
    if pid == 0:
        call("prctl", SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        guarded(keep, setup, answers)
    os.close(answers)
    os.close(0)
    _, status = os.waitpid(pid, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _shut_in(visible: list[str]) -> None:
    """New namespaces, and a root that holds what is visible and nothing else, all of it read-only."""
    if os.geteuid() == 0 and _knows_nobody():
        call("unshare", NEW_MOUNT)
        _build_root(visible)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        outside = (NOBODY, NOBODY)
        call("unshare", ALL_NEW)
        map_user(0, outside)
    else:
        outside = (os.geteuid(), os.getegid())
        call("unshare", ALL_NEW)
        map_user(0, outside)
        _build_root(visible)


def _knows_nobody() -> bool:
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        ranges = [tuple(map(int, line.split())) for line in lines]
    return any(start <= NOBODY < start + count for start, _, count in ranges)


def _build_root(visible: list[str]) -> None:
    call("mount", None, b"/", None, REC | PRIVATE, None)
    kept = {path: os.open(path, O_PATH) for path in [*visible, *_DEVICES, "/proc"]}
    mount("tmpfs", FILES, "mode=0755,size=1m")
    for path, source in kept.items():
        _bind(source, FILES + path, closed=path in visible)
    for name in ("/bin", "/lib", "/lib64"):
        if os.path.islink(name) and not os.path.lexists(FILES + name):
            os.symlink(os.readlink(name), FILES + name)
    os.makedirs(FILES + FILES, exist_ok=True)
    os.chdir(FILES)
    call("pivot_root", b".", b".")
    call("umount2", b".", DETACH)
    os.chdir("/")
    close_to_writing("/", deep=False)


_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def _bind(source: int, target: str, *, closed: bool) -> None:
    path = f"/proc/self/fd/{source}"
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    call("mount", path.encode(), target.encode(), None, BIND | REC, None)
    if closed:
        close_to_writing(target, deep=True)
    os.close(source)
