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
PATIENCE_S = 300.0
"""The longest time in which a client takes nothing of its answer; then it is taken for gone."""

BODY_SILENCE_S = 60.0
"""The longest time in which nothing comes of a body that has begun."""


class ClientLeft(Exception):
    """The client has closed its connection, or takes nothing any more."""


class BodyTooLong(Exception):
    """The client sends a longer body than is taken."""


class BodyLate(Exception):
    """The client has begun a body, and sends nothing more of it."""


class NoRoom(Exception):
    """The bodies that are here leave no room for this one."""


class BodyRoom:
    """The room for the bodies of all requests, from their first byte to the end of the request."""

    def __init__(self, most_bytes: int) -> None:
        self.held_bytes = 0
        """The bytes that are here now."""
        self._most_bytes = most_bytes

    def take(self, more_bytes: int) -> None:
        """Takes room. Raises `NoRoom` where there is none; what was taken before stays taken."""
        if self.held_bytes + more_bytes > self._most_bytes:
            raise NoRoom
        self.held_bytes += more_bytes

    def give(self, back_bytes: int) -> None:
        """Gives room back."""
        self.held_bytes -= back_bytes


class ClientExchange:
    """One request of a client, and its answer. What sends may raise `ClientLeft`."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.started = False
        """True once the client has the status."""
        self.gone = False
        """True once the client has left."""
        self.body_bytes = 0
        """The bytes of its body that have come."""
        self._ended = False
        self._receive = receive
        self._send = send
        self._watch: asyncio.Task[None] | None = None
        self._left: Callable[[], object] = lambda: None

    @property
    def ended(self) -> bool:
        """True once it has been answered to the end."""
        return self._ended

    def header(self, name: bytes) -> bytes | None:
        """Returns a header's value; None where there is none. `name` is in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    async def body(self, most_bytes: int, room: BodyRoom) -> bytes:
        """Returns the whole body, which has taken `body_bytes` of the room by then, also where it raises `BodyTooLong`,
        `BodyLate`, `NoRoom` or `ClientLeft`."""
        length = self.header(b"content-length")
        if length is not None and length.isdigit() and int(length[:20]) > most_bytes:
            raise BodyTooLong
        parts = []
        while True:
            try:
                async with asyncio.timeout(BODY_SILENCE_S):
                    message = await self._receive()
            except TimeoutError:
                raise BodyLate from None
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ClientLeft
            part = message.get("body", b"")
            parts.append(part)
            room.take(len(part))
            self.body_bytes += len(part)
            if self.body_bytes > most_bytes:
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
        await self._send_in_time({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def pass_on(self, chunk: bytes) -> None:
        """Sends a part of the body, and waits while the client does not take it: for how long, the caller sees to."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, chunk: bytes = b"") -> None:
        """Sends the last part of the body."""
        self._ended = True
        await self._send_in_time({"type": "http.response.body", "body": chunk, "more_body": False})

    async def _send_in_time(self, message: Message) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._send(message)
        except TimeoutError:
            self.gone = True
            raise ClientLeft from None

    async def answer(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """Sends an answer in one piece; the headers have its length."""
        await self.start(status, headers)
        await self.end(body)

    async def refuse(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        unread: bool = False,
    ) -> None:
        """Sends an error in OpenAI's form. `unread`: not all of the body was read."""
        body = error_body(status, kind, message, param)
        headers = [JSON, (b"content-length", b"%d" % len(body))]
        if retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % retry_after_s))
        if status in (408, 413, 503) or unread:
            # The rest of a long body is not read; and a router that is to end takes nothing more on this connection.
            headers.append((b"connection", b"close"))
        await self.answer(status, headers, body)
