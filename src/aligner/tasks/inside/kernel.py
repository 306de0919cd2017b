"""Calls of the Linux kernel that Python has no functions for."""

import contextlib
import ctypes
import json
import os
import resource
import traceback
from typing import Any, NoReturn

NEW_MOUNT, _NEW_UTS, NEW_IPC = 0x00020000, 0x04000000, 0x08000000
NEW_USER, NEW_PID, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
ALL_NEW = NEW_USER | NEW_MOUNT | _NEW_UTS | NEW_IPC | NEW_PID | _NEW_NET
NOSUID, NODEV, NOEXEC, BIND, REC, PRIVATE, READ_ONLY = 2, 4, 8, 4096, 16384, 1 << 18, 1
DETACH, O_PATH = 2, 0o10000000
SET_DEATH_SIGNAL, SET_DUMPABLE, DROP_BOUND, NO_NEW_PRIVILEGES = 1, 4, 24, 38
_AT_WORKING_FOLDER, _RECURSIVE, _MOUNT_SETATTR = -100, 0x8000, 442
NOBODY = 65534
FILES = "/tmp"  # noqa: S108 -- what is mounted there is our own
TOKEN_SIZE = 32
"""bytes of the token before a program's result: without it, the sandbox failed, and not the program"""

LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """A function of the C library; raises OSError, which names it."""
    given = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    result: int = getattr(LIBC, name)(*given)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def mount(kind: str, target: str, options: str = "", flags: int = NOSUID | NODEV) -> None:
    """A new file system of a kind that needs no device."""
    call("mount", kind.encode(), target.encode(), kind.encode(), flags, options.encode())


class _MountAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace"))


def close_to_writing(path: str, *, deep: bool) -> None:
    """Make what is mounted there read-only; `deep`, with all that is mounted below, and without devices."""
    wanted = _MountAttributes(READ_ONLY | NOSUID | (NODEV if deep else 0), 0, 0, 0)
    size = ctypes.sizeof(wanted)
    depth = _RECURSIVE if deep else 0
    call("syscall", _MOUNT_SETATTR, _AT_WORKING_FOLDER, path.encode(), depth, ctypes.byref(wanted), size)


def write_to(path: str, text: str, folder: int | None = None) -> None:
    """Write to a file that is there; its path may start in an open folder."""
    file = os.open(path, os.O_WRONLY, dir_fd=folder)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def map_user(inside: int, outside: tuple[int, int], folder: int | None = None) -> None:
    """In a new user namespace, one user and one group are known."""
    call("prctl", SET_DUMPABLE, 1, 0, 0, 0)  # or the files below are root's
    base = "self" if folder is not None else "/proc/self"
    write_to(f"{base}/setgroups", "deny", folder)
    write_to(f"{base}/uid_map", f"{inside} {outside[0]} 1", folder)
    write_to(f"{base}/gid_map", f"{inside} {outside[1]} 1", folder)


VIRTUAL, RESIDENT = 0, 1
"""columns of a process's sizes"""


def size_of(processes: int, pid: str, column: int) -> int:
    """Bytes of memory that a process has, or 0 where it has just ended."""
    try:
        file = os.open(f"{pid}/statm", os.O_RDONLY, dir_fd=processes)
    except OSError:
        return 0
    try:
        return int(os.read(file, 200).split()[column]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0
    finally:
        os.close(file)


def guarded(work: Any, *arguments: object) -> NoReturn:
    """A forked process never goes back into the code of its parent."""
    try:
        work(*arguments)
    except BaseException:  # noqa: BLE001 -- it ends here, whatever it is
        with contextlib.suppress(BaseException):
            traceback.print_exc()
        os._exit(70)
    os._exit(0)


def tell(file: int, said: dict[str, Any]) -> None:
    """Write an object, after its size in four bytes."""
    text = json.dumps(said).encode()
    os.write(file, len(text).to_bytes(4, "big") + text)
