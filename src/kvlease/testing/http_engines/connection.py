"""HTTP/1.1 of the server's side on asyncio alone, with connections that a fault can cut at any byte.

One request at a time on each connection, bodies with Content-Length, answers whole or in chunks: what clients of an
engine send, and no more. It is for tests, not for a network that anybody can reach.
"""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec

Handler = Callable[["Exchange"], Awaitable[None]]
JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"


class Exchange:
    """One request, and the way to answer it."""

    def __init__(self, connection: "ServerConnection", method: str, path: str, headers: dict[str, str], body: bytes):
        self.method = method
        self.path = path
        self.headers = headers
        """The headers, by names in lower case."""
        self.body = body
        self.connection = connection

    def answer(self, status: int, content: object, kind: str = JSON, **headers: str) -> None:
        """Sends an answer in one piece; `content` is bytes, or becomes JSON."""
        body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        self.connection.write(
            self._head(status, {"content-type": kind, "content-length": str(len(body))} | headers) + body
        )

    def begin(self) -> None:
        """Sends the head of a stream of events."""
        self.connection.write(self._head(200, {"content-type": EVENTS, "transfer-encoding": "chunked"}))

    async def send(self, event: bytes) -> None:
        """Sends events of a stream, and waits where the client does not read them."""
        self.connection.write(b"%x\r\n%b\r\n" % (len(event), event))
        await self.connection.drained()

    def end(self) -> None:
        """Ends the stream."""
        self.connection.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Ends the connection where it is."""
        self.connection.cut()

    def _head(self, status: int, headers: dict[str, str]) -> bytes:
        given = self.headers.get("x-request-id")
        more = {"x-request-id": given} if given else {}
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in (headers | more).items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class ServerConnection(asyncio.Protocol):
    """A client's connection."""

    def __init__(
        self,
        handler: Handler,
        opened: Callable[["ServerConnection"], None],
        closed: Callable[["ServerConnection"], None],
    ):
        self._handler = handler
        self._opened, self._closed = opened, closed
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        self._opened(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._writable.set()
        if self._task is not None:
            self._task.cancel()
        self._closed(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._task is None:
            self._next()

    def write(self, data: bytes) -> None:
        """Sends bytes, if the connection is still there."""
        if self._transport is not None:
            self._transport.write(data)

    async def drained(self) -> None:
        """Waits until what was written has left, and lets others run."""
        await asyncio.sleep(0)
        await self._writable.wait()

    def cut(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        """Takes the next request, once all of it is there."""
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            if headers.get("expect", "").lower() == "100-continue":
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        del self._received[: len(head) + 4 + length]
        method, path, _ = first.split(" ", 2)
        exchange = Exchange(self, method, path.partition("?")[0], headers, bytes(rest[:length]))
        self._task = asyncio.get_running_loop().create_task(self._handle(exchange))

    async def _handle(self, exchange: Exchange) -> None:
        try:
            await self._handler(exchange)
        except BaseException:
            # A mistake in a fake is seen at once, and not waited for.
            if self._transport is not None:
                self._transport.abort()
            raise
        finally:
            self._task = None
        if exchange.headers.get("connection", "").lower() == "close" and self._transport is not None:
            self._transport.close()
        elif self._transport is not None:
            self._next()
