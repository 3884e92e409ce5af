"""A client that measures: HTTP/1.1 on bare connections, with an answer parsed only after its end.

It takes part in every figure, beside a router as without one, so it does as little as it can while an answer comes.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from proof.load.reading import read_text, without_chunks

COMPLETIONS = "/v1/completions"
_TOKEN = b'"text":"'
_LAST = b"0\r\n\r\n"
_ASK_P = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """An answer, and when its parts came, in seconds after the request began."""

    status: int
    """The status; 0 where the connection ended before there was one."""
    first_s: float | None
    """The time of the first token."""
    whole_s: float
    longest_gap_s: float
    """The longest silence after the first token."""
    text: str | None
    """The text; None where the answer is not whole."""
    why: str = ""
    """The reason why it is not whole."""


class _ClientConnection(asyncio.Protocol):
    """One answer at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.received = bytearray()
        self.first_at: float | None = None
        self.longest_gap_s = 0.0
        self._last_at = 0.0
        self._done: asyncio.Future[None] | None = None
        self._needs = 0
        self._chunked = False
        self.head_end = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, _error: Exception | None) -> None:
        self.transport = None
        self._finish()

    def ask(self, request: bytes) -> "asyncio.Future[None]":
        """Sends a request; the future is done at the answer's end, or the connection's."""
        self.received, self.head_end, self.first_at, self.longest_gap_s = bytearray(), 0, None, 0.0
        self._done = asyncio.get_running_loop().create_future()
        if self.transport is None:
            self._finish()
        else:
            self.transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.received += data
        if not self.head_end:
            self._read_head()
        if self.first_at is not None:
            self.longest_gap_s = max(self.longest_gap_s, now - self._last_at)
        elif self.received.find(_TOKEN, self.head_end) >= 0:
            self.first_at = now
        self._last_at = now
        if self.complete:
            self._finish()

    def cut(self) -> None:
        """Ends the connection."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def body(self) -> bytes:
        """The answer's body, in one piece."""
        body = bytes(self.received[self.head_end :])
        return without_chunks(body) if self._chunked else body

    @property
    def complete(self) -> bool:
        """True once all of the answer is there."""
        if not self.head_end:
            return False
        if self._chunked:
            # A chunk ends with its own line end, the last one comes after that.
            return self.received.endswith(b"\r\n" + _LAST)
        return len(self.received) - self.head_end >= self._needs

    def _read_head(self) -> None:
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        self.head_end = end + 4
        head = bytes(self.received[:end]).lower()
        self._chunked = b"transfer-encoding: chunked" in head
        length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        self._needs = int(length or 0)

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def answer(self, began_at: float, ended_at: float) -> WireAnswer:
        """Returns what came."""
        head = bytes(self.received[: self.head_end])
        status = int(head.split(b" ", 2)[1]) if head else 0
        text, why = read_text(self.body, status, complete=self.complete)
        first_s = None if self.first_at is None else self.first_at - began_at
        return WireAnswer(status, first_s, ended_at - began_at, self.longest_gap_s, text, why)


class WireClient:
    """A client of one server, which keeps its connections."""

    def __init__(self, url: str) -> None:
        self._place = (urlsplit(url).hostname or "", urlsplit(url).port or 80)
        self._idle: list[_ClientConnection] = []

    async def ask(self, body: Mapping[str, Any], path: str = COMPLETIONS) -> WireAnswer:
        """Asks, and returns the answer. Whatever goes wrong stands in it."""
        began_at = time.perf_counter()
        try:
            connection = await self._exchange(body, path)
        except OSError as error:
            return WireAnswer(0, None, time.perf_counter() - began_at, 0.0, None, f"no connection: {error}")
        ended_at = time.perf_counter()
        answer = connection.answer(began_at, ended_at)
        self._keep(connection)
        return answer

    async def ask_json(self, body: Mapping[str, Any], path: str = COMPLETIONS) -> Any:
        """Asks, and returns the answer as JSON."""
        connection = await self._exchange(body, path)
        found = msgspec.json.decode(connection.body)
        self._keep(connection)
        return found

    def close(self) -> None:
        """Ends all connections."""
        for connection in self._idle:
            connection.cut()
        self._idle.clear()

    async def _exchange(self, body: Mapping[str, Any], path: str) -> _ClientConnection:
        """Sends a request and waits for the end. Raises OSError where there is no connection."""
        content = msgspec.json.encode(body)
        head = f"POST {path} HTTP/1.1\r\nHost: {self._place[0]}:{self._place[1]}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        connection = await self._connection()
        try:
            await connection.ask(head.encode() + content)
        except asyncio.CancelledError:
            connection.cut()
            raise
        return connection

    def _keep(self, connection: _ClientConnection) -> None:
        if connection.complete:
            self._idle.append(connection)

    async def _connection(self) -> _ClientConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(_ClientConnection, *self._place)
        return connection


async def ask_both(prefill: WireClient, decode: WireClient, body: Mapping[str, Any]) -> WireAnswer:
    """Does by hand what a router does, the least that anybody can: asks P, and D with what P said."""
    began_at = time.perf_counter()
    asked = {**body, "max_tokens": 1, "stream": False, "kv_transfer_params": _ASK_P}
    params = (await prefill.ask_json(asked))["kv_transfer_params"]
    prefilled_s = time.perf_counter() - began_at
    answer = await decode.ask({**body, "kv_transfer_params": params})
    first_s = None if answer.first_s is None else answer.first_s + prefilled_s
    return WireAnswer(
        answer.status, first_s, answer.whole_s + prefilled_s, answer.longest_gap_s, answer.text, answer.why
    )
