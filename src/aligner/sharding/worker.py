"""A process that does one part after the other: `python -m aligner.sharding.worker FD`."""

import os
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue

from aligner.sharding.calling import Call, call


def main(descriptor: int) -> None:
    """Answer calls on an open socket until the other side is gone; then end at once, in the middle of whatever it is.

    Two processes at one part would be in each other's way, so none outlives whoever asked it.
    """
    line = Connection(descriptor)
    calls = SimpleQueue[Call]()
    threading.Thread(target=_listen, args=(line, calls), daemon=True).start()
    while True:
        line.send(call(calls.get()))


def _listen(line: Connection, calls: SimpleQueue[Call]) -> None:
    try:
        while True:
            calls.put(line.recv())
    except (EOFError, OSError):
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
