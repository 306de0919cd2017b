"""math-verify in a process of its own: pairs are compared in a copy that is stopped when one takes too long.

Reads `{"gold": ..., "answer": ..., "seconds": ...}` line by line, and writes `{"right": ..., "read": ...}` for each.
"""

import json
import os
import resource
import select
import signal
import sys
from importlib import import_module
from typing import Any

_MEMORY = 4 << 30


def _compare(gold: str, answer: str) -> dict[str, Any]:
    maths: Any = import_module("math_verify")  # it takes seconds, and has no types
    # Time is kept from outside: the limits of math-verify are alarms, which do not stop C code.
    wanted = maths.parse(f"${gold}$", parsing_timeout=None)
    found = maths.parse(answer, parsing_timeout=None)
    read = str(found[-1]) if found else ""
    return {"right": bool(found) and bool(maths.verify(wanted, found, timeout_seconds=None)), "read": read[:200]}


class _Copy:
    """A copy of this process that compares one pair after another; its caches grow warm, and it can be stopped."""

    def __init__(self) -> None:
        (asked, self._ask), (self._hear, answers) = os.pipe(), os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            # Whoever holds an end of its own pipe never hears that the other one is gone.
            os.close(self._ask)
            os.close(self._hear)
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            with os.fdopen(asked) as lines:
                for line in lines:
                    os.write(answers, _answer(json.loads(line)))
            os._exit(0)
        os.close(asked)
        os.close(answers)

    def compare(self, line: str, seconds: float) -> str:
        """The answer, or "" where none comes in time."""
        os.write(self._ask, line.encode())
        polled = select.poll()
        polled.register(self._hear, select.POLLIN)
        return os.read(self._hear, 65536).decode() if polled.poll(seconds * 1000) else ""

    def end(self) -> None:
        """Stop it, whatever it does."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._ask)
        os.close(self._hear)


def _answer(asked: dict[str, Any]) -> bytes:
    try:
        said = _compare(asked["gold"], asked["answer"])
    except BaseException as error:  # noqa: BLE001 -- whatever strange mathematics does to sympy, it is not right
        said = {"right": False, "read": f"error ({type(error).__name__})"}
    return json.dumps(said).encode() + b"\n"


def main() -> None:
    """Until there are no more lines."""
    import_module("math_verify")  # once, for all copies
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    copy: _Copy | None = None
    for line in sys.stdin:
        copy = copy or _Copy()
        said = copy.compare(line, json.loads(line)["seconds"])
        if not said:
            copy.end()
            copy = None
        answers.write(said or json.dumps({"right": False, "read": "timeout"}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
