"""The client's side of a request, as ASGI has it: its body, its leaving, and the answer."""

import asyncio
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from kvlease.router.streams import error_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Any]
Send = Callable[[Message], Any]
JSON = (b"content-type", b"application/json")


class ClientLeft(Exception):
    """The client has closed its connection."""


class BodyTooLong(Exception):
    """The client sends a longer body than is taken."""


class ClientExchange:
    """One request of a client, and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.started = False
        """True once the client has the status."""
        self.gone = False
        """True once the client has left."""
        self._ended = False
        self._receive = receive
        self._send = send
        self._watch: asyncio.Task[None] | None = None
        self._left: Callable[[], object] = lambda: None

    def header(self, name: bytes) -> bytes | None:
        """Returns a header's value; None where there is none. `name` is in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    async def body(self, most_bytes: int) -> bytes:
        """Returns the whole body. Raises `BodyTooLong` and `ClientLeft`."""
        length = self.header(b"content-length")
        if length is not None and length.isdigit() and int(length[:20]) > most_bytes:
            raise BodyTooLong
        parts, total = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ClientLeft
            part = message.get("body", b"")
            parts.append(part)
            total += len(part)
            if total > most_bytes:
                raise BodyTooLong
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def watch(self, left: Callable[[], object]) -> None:
        """Has `left` called when the client leaves, in the place of what was to be called before."""
        self._left = left
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._wait())

    def unwatch(self) -> None:
        """Ends what `watch` began."""
        self._left = lambda: None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        # A server says the same once it has sent the whole answer.
        if not self._ended:
            self.gone = True
            self._left()

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Sends the status and the headers."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def pass_on(self, chunk: bytes) -> None:
        """Sends a part of the body, and waits while the client does not take it."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, chunk: bytes = b"") -> None:
        """Sends the last part of the body."""
        self._ended = True
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    async def answer(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """Sends an answer in one piece; the headers have its length."""
        await self.start(status, headers)
        await self.end(body)

    async def refuse(
        self, status: int, kind: str, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        """Sends an error in OpenAI's form."""
        body = error_body(status, kind, message, param)
        headers = [JSON, (b"content-length", b"%d" % len(body))]
        if retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % retry_after_s))
        if status in (413, 503):
            # The rest of a long body is not read; and a router that is to end takes nothing more on this connection.
            headers.append((b"connection", b"close"))
        await self.answer(status, headers, body)
