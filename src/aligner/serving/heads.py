"""The heads of requests: how long one may take and how long it may be, before there is a request to speak of."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aligner.serving.wire import WireError

SECONDS = 30.0
"""for a whole head, and for the first one to begin"""
LARGEST = 64 * 2**10
"""bytes of a head at the most"""


class LimitedHeads(HttpToolsProtocol):
    """HTTP by uvicorn, which by itself would wait for ever, and read for ever, while a head has no end."""

    seconds = SECONDS
    _timer: asyncio.TimerHandle | None = None
    _head: int | None = 0
    """bytes of a head that has no end yet"""
    _since = 0.0
    """when it was begun to wait for one"""

    def connection_made(self, transport: Any) -> None:
        """Somebody is there, and is expected to ask."""
        super().connection_made(transport)
        self._expect()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._expect()

    def on_headers_complete(self) -> None:
        """It has ended."""
        self._head = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Some bytes came, of a head or of what follows it."""
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > LARGEST:
                self._refuse(
                    WireError(431, f"the head of the request is larger than {LARGEST:,} bytes", "head_too_large")
                )

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse(WireError(400, msg, "invalid_http"))

    def _expect(self) -> None:
        self._head, self._since = 0, self.loop.time()

    def _look(self) -> None:
        """Give up on a head that takes too long; a timer for each connection costs less than one for each head."""
        waited = 0.0 if self._head is None else self.loop.time() - self._since
        if waited < self.seconds:
            self._timer = self.loop.call_later(self.seconds - waited, self._look)
        elif self._head:
            self._refuse(WireError(408, "the head of the request did not come in time", "request_timeout"))
        else:  # nothing was asked, and so nothing is to be said
            self.transport.close()

    def _refuse(self, error: WireError) -> None:
        """Say so, if no other answer is on its way, and hang up."""
        self._head = None
        if self.transport.is_closing():
            return
        if not self.cycle or self.cycle.response_complete:
            head = f"HTTP/1.1 {error.status} \r\ncontent-type: application/json\r\n"
            length = f"content-length: {len(error.body)}\r\nconnection: close\r\n\r\n"
            self.transport.write((head + length).encode() + error.body)
        self.transport.close()
