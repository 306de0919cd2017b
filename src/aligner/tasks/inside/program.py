"""The program: gives up every right, lives under limits, runs the code, and gives its end a name."""

import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import sys
import types
from typing import Any

from .filter import filter_calls
from .kernel import (
    DROP_BOUND,
    FILES,
    LIBC,
    NEW_USER,
    NO_NEW_PRIVILEGES,
    NOBODY,
    TOKEN_SIZE,
    VIRTUAL,
    call,
    map_user,
    size_of,
    write_to,
)

_RESULT = 100
"""the file, far from those that code opens, to which the result is written"""
_NETWORK = {
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EHOSTUNREACH,
    errno.ECONNREFUSED,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
}
FAILURES = {"memory", "processes", "network", "files", "error", "wrong answer"}
"""names for a program's end that it may say itself"""
_FULL = {errno.EMFILE, errno.ENFILE, errno.EFBIG, errno.ENOSPC, errno.EROFS, errno.EXDEV}


def become_program(asked: dict[str, Any], out: int, result: int, processes: int) -> None:
    """Give up every right, run the code, and write its result; what it prints goes to `out`."""
    call("unshare", NEW_USER)
    map_user(NOBODY, (0, 0), processes)
    write_to("sys/user/max_user_namespaces", "0", processes)
    null = os.open("/dev/null", os.O_RDONLY)
    space = size_of(processes, "self", VIRTUAL)
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    result = _only_files(null, out, result)
    _limit(asked, space)
    _give_up_capabilities()
    filter_calls()
    _run(asked["code"], result)


def _run(code: str, result: int) -> None:
    """Run code, and write how it ended: the token alone where it ran to its end, or else why it did not."""
    own, pid = os.getpid(), os.getpid
    try:
        # In no variable: code can read those of the frames that called it, but neither this token nor this `write`,
        # both evaluated before it runs. Nor does it see the token when it fails, since nothing then writes it.
        os.write(result, _begun(result) * _ran(code, own))
    except BaseException as error:  # noqa: BLE001 -- whatever it is, it has a name
        reason, said = _name_of(error)
        if pid() == own:  # and no copy that the program made of itself
            os.write(result, json.dumps({"reason": reason, "said": said[:300]}).encode() + b"\n")


def _begun(result: int) -> bytes:
    """What to write when the code has run to its end: a token that the warden has been told of, as a line."""
    token = os.urandom(TOKEN_SIZE // 2).hex().encode()
    os.write(result, token)
    return token + b"\n"


def _only_files(null: int, out: int, result: int) -> int:
    kept = os.dup2(result, _RESULT, inheritable=False)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.closerange(3, _RESULT)
    os.closerange(_RESULT + 1, 4096)
    return kept


def _limit(asked: dict[str, Any], space: int) -> None:
    cpu = max(1, round(asked["cpu_seconds"]))
    limits = {
        resource.RLIMIT_AS: space + asked["memory_bytes"],
        resource.RLIMIT_NPROC: asked["processes"],
        resource.RLIMIT_FSIZE: asked["file_bytes"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for name, value in limits.items():
        resource.setrlimit(name, (value, value))
    resource.setrlimit(resource.RLIMIT_NOFILE, (asked["files"], asked["files"]))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))


def _give_up_capabilities() -> None:
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    number = 0
    while LIBC.prctl(DROP_BOUND, ctypes.c_ulong(number), 0, 0, 0) == 0:
        number += 1
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    call("capset", header, (ctypes.c_uint32 * 6)())


def _ran(code: str, own: int) -> bool:
    """Whether it is the program that has run to its end, and no copy that it made of itself."""
    pid = os.getpid
    # Under a name of its own, so that what code does only as a script is left out, as in the original benchmarks.
    module = types.ModuleType("program")
    sys.modules["__main__"] = sys.modules["program"] = module
    sys.argv = ["program"]
    exec(compile(code, "<program>", "exec"), module.__dict__)  # noqa: S102 -- it is what the sandbox is for
    sys.stdout.flush()
    return pid() == own


def _name_of(error: BaseException) -> tuple[str, str]:
    """The name under which a program's end is reported, and the first words of its error."""
    kind = type(error).__name__
    said = kind
    with contextlib.suppress(BaseException):
        said = f"{kind}: {error}"[:300]
    if isinstance(error, AssertionError):
        return "wrong answer", said
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < 10:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return next((name for name in map(_limit_named, causes) if name), "error"), said


def _limit_named(error: BaseException) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return "memory"
    if number == errno.EAGAIN or (isinstance(error, RuntimeError) and "can't start new thread" in str(error)):
        return "processes"
    if type(error).__name__ == "gaierror" or number in _NETWORK:
        return "network"
    return "files" if number in _FULL or _is_outside(error) else ""


def _is_outside(error: BaseException) -> bool:
    """Whether a file could not be had because it is none of the program's."""
    if not isinstance(error, PermissionError | FileNotFoundError | FileExistsError):
        return False
    name = str(error.filename or "")
    return name.startswith("/") and not name.startswith(f"{FILES}/")
