"""HTTP/1.1 of the clients' side, with bounds on what is no request yet.

uvicorn and httptools take a head of any length, for any time, and put a long one together piece by piece, in a time
that grows with its square: a client with one endless header would hold up all others for minutes. It needs the packages
uvicorn and httptools.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 65_536
"""The most bytes that come without making a request's head, or more of its body: a head, a chunk's extensions, or what
follows a body in chunks."""
HEAD_S = 60.0
"""The longest time for a head, and for the first one of a new connection."""
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


async def _say_too_long(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 431, "headers": headers})
    await send({"type": "http.response.body"})


class ClientWire(HttpToolsProtocol):
    """One client's connection, as uvicorn serves it."""

    _unread_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._end_wait()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._wait_for_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        self._end_wait()
        app = self.app
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MOST_HEAD_BYTES:
            # It came in few pieces.
            self.app = _say_too_long
        super().on_headers_complete()
        self.app = app

    def on_body(self, body: bytes) -> None:
        """A part of its body has come."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it has come."""
        self._unread_bytes = 0
        super().on_message_complete()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        self._end_wait()
        self._timer = self.loop.call_later(HEAD_S, self._is_late)

    def _end_wait(self) -> None:
        self._unread_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_late(self) -> None:
        if self._is_answering():
            # The next request may wait while the one before it is answered.
            self._wait_for_head()
        else:
            self.transport.close()

    def _refuse(self) -> None:
        if self._is_answering():
            self.transport.abort()
        else:
            self.transport.write(_TOO_LONG)
            self.transport.close()
