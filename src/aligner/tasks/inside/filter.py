"""A filter of system calls: what no benchmark's code needs, and what the kernel has more often had holes in."""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .kernel import call


class _Machine(NamedTuple):
    """What a kind of processor calls itself, and the numbers of its system calls."""

    name: int
    socket: int
    clone: int
    prlimit: int
    denied: tuple[int, ...]


# Tracing, keys, shared memory that outlives its user, memory files, mounts, namespaces, bpf, perf and userfaultfd.
_X86 = (101, 310, 311, 248, 249, 250, 29, 64, 68, 319, 165, 166, 155, 272, 308, 321, 298, 323)
_ARM = (117, 270, 271, 217, 218, 219, 194, 190, 186, 279, 40, 39, 41, 97, 268, 280, 241, 282)
# The same numbers everywhere: io_uring, the new calls for mounts, pidfd_getfd, process_madvise and memfd_secret.
_NEW = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 447)
_MACHINES = {
    "x86_64": _Machine(0xC000003E, 41, 56, 302, (*_X86, *_NEW)),
    "aarch64": _Machine(0xC00000B7, 198, 220, 261, (*_ARM, *_NEW)),
}
_CLONE3, _UNIX, _NEW_NAMESPACES, _X32 = 435, 1, 0x7E020000, 0x40000000
_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def filter_calls() -> None:
    """From here on, for this process and all that it starts; OSError on a processor whose calls are not known."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        raise OSError(errno.ENOSYS, f"no filter of system calls is known for {os.uname().machine}")
    code = b"".join(_program(machine))
    text = ctypes.create_string_buffer(code, len(code))
    address = ctypes.addressof(text)
    call("prctl", _SET_SECCOMP, _FILTER, struct.pack("H6xQ", len(code) // 8, address), 0, 0)


def _program(machine: _Machine) -> Iterator[bytes]:
    yield _step(_LOAD, _ARCHITECTURE)
    yield _step(_EQUAL, machine.name, then=1)
    yield _step(_RETURN, _KILL)
    yield _step(_LOAD, _NUMBER)
    yield _step(_AT_LEAST, _X32, otherwise=1)
    yield _refuse(errno.ENOSYS)
    for number in machine.denied:
        yield _step(_EQUAL, number, otherwise=1)
        yield _refuse(errno.EPERM)
    # Its flags are in memory, where no filter can look; the C library then takes clone instead.
    yield _step(_EQUAL, _CLONE3, otherwise=1)
    yield _refuse(errno.ENOSYS)
    yield _step(_EQUAL, machine.clone, otherwise=4)
    yield _step(_LOAD, _FIRST_ARGUMENT)
    yield _step(_ANY_BIT, _NEW_NAMESPACES, otherwise=1)
    yield _refuse(errno.EPERM)
    yield _step(_RETURN, _ALLOW)
    # Limits of its own, but of no other process: the warden is the same user's.
    yield _step(_EQUAL, machine.prlimit, otherwise=4)
    yield _step(_LOAD, _FIRST_ARGUMENT)
    yield _step(_EQUAL, 0, then=1)
    yield _refuse(errno.EPERM)
    yield _step(_RETURN, _ALLOW)
    yield _step(_EQUAL, machine.socket, otherwise=3)
    yield _step(_LOAD, _FIRST_ARGUMENT)
    yield _step(_EQUAL, _UNIX, then=1)
    yield _refuse(errno.EAFNOSUPPORT)
    yield _step(_RETURN, _ALLOW)


def _step(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction, and how many it jumps over when its condition holds, or does not."""
    return struct.pack("HBBI", code, then, otherwise, value)


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERROR | number)
