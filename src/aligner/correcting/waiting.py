"""Plain code that waits for coroutines, in whatever thread it runs."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """An event loop in a thread of its own, for as long as `with BackgroundLoop() as loop:` lasts.

    So coroutines go on between two waits, and it does not matter whether the waiting thread runs a loop itself, as
    those of notebooks do.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="aligner-requests", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; it is cancelled when the wait is interrupted."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def _run(self) -> None:
        # The runner cancels what is left, and lets it end.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()
