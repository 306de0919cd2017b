"""The keeper: pid 1 of the sandbox, which has one program after another run, and tells what became of each."""

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import Any

from .kernel import NEW_PID, NODEV, NOEXEC, NOSUID, call, guarded, mount, tell, write_to
from .warden import ward


def keep(setup: dict[str, Any], answers: int) -> None:
    """Run programs until there are no more, with what most of them import at hand."""
    mount("proc", "/proc", flags=NOSUID | NODEV | NOEXEC)
    with contextlib.suppress(OSError):
        write_to("/proc/self/oom_score_adj", "1000")
    sys.path += setup["packages"]
    for name in setup["imports"]:
        __import__(name)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    tell(answers, {"ready": True})
    while (asked := _hear(0)) is not None:
        tell(answers, _run(asked, own))


def _run(asked: dict[str, Any], own: int) -> dict[str, Any]:
    """One program, in namespaces of its own, which are gone when this returns."""
    begun = time.monotonic()
    found, write = os.pipe()
    call("setns", own, NEW_PID)
    call("unshare", NEW_PID)
    warden = os.fork()
    if warden == 0:
        os.close(found)
        guarded(ward, asked, write)
    os.close(write)
    deadline = time.monotonic() + asked["wall_seconds"] + 5
    text = _until_closed(found, deadline)
    os.close(found)
    late = time.monotonic() >= deadline
    os.kill(warden, signal.SIGKILL)
    _, status = os.waitpid(warden, 0)
    if text:
        return json.loads(text)
    killed = os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    # A warden that somebody else killed fell to the kernel, for want of memory; one that ended has failed.
    reason = "timeout" if late else "memory" if killed else "broken"
    return {"reason": reason, "said": "", "seconds": time.monotonic() - begun}


def _until_closed(file: int, deadline: float) -> bytes:
    text = b""
    polled = select.poll()
    polled.register(file, select.POLLIN)
    polled.register(0, select.POLLHUP)
    while (left := deadline - time.monotonic()) > 0:
        ready = dict(polled.poll(left * 1000))
        if ready.get(0, 0) & select.POLLHUP:
            os._exit(0)  # nobody listens any more
        if file in ready:
            piece = os.read(file, 65536)
            if not piece:
                break
            text += piece
    return text


def _hear(file: int) -> dict[str, Any] | None:
    size = _read_all(file, 4)
    return json.loads(_read_all(file, int.from_bytes(size, "big"))) if len(size) == 4 else None


def _read_all(file: int, size: int) -> bytes:
    text = b""
    while len(text) < size and (piece := os.read(file, size - len(text))):
        text += piece
    return text
