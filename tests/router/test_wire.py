"""HTTP of the clients' side: what is no request, and never becomes one, has bounds."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from kvlease.router.wire import HEAD_S, MOST_HEAD_BYTES, ClientWire
from tests.router.bench import leap, play

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"


class Wire(asyncio.Transport):
    """A client's connection."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = ""

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return bool(self.closed)

    def close(self) -> None:
        self.closed = "closed"

    def abort(self) -> None:
        self.closed = "aborted"

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def on_wire(scene: Callable[[ClientWire, Wire], Any]) -> None:
    """Plays a scene with a connection that has been made."""

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def run() -> None:
        http = ClientWire(Config(app, log_config=None, access_log=False), ServerState(), {})
        wire = Wire()
        http.connection_made(wire)
        await scene(http, wire)
        http.connection_lost(None)
        await asyncio.gather(*http.tasks)

    play(run)


@pytest.mark.parametrize(
    ("begun", "more", "ends"),
    [
        (b"POST /", b"a" * 1000, "closed"),
        (HEAD + b"X: ", b"a" * 1000, "closed"),
        (HEAD, b"X: a\r\n" * 100, "closed"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;", b"a" * 1000, "aborted"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: ", b"a" * 1000, "aborted"),
    ],
)
def test_what_does_not_become_a_request_ends(begun: bytes, more: bytes, ends: str) -> None:
    async def scene(http: ClientWire, wire: Wire) -> None:
        http.data_received(begun)
        sent = 0
        while not wire.closed:
            assert sent <= MOST_HEAD_BYTES
            http.data_received(more)
            sent += len(more)
        assert wire.closed == ends
        assert wire.written.startswith(b"HTTP/1.1 431") == (ends == "closed")

    on_wire(scene)


@pytest.mark.parametrize("header", [b"a:\r\n", b"X: " + b"a" * 1000 + b"\r\n"])
def test_a_long_head_in_one_piece_is_refused_too(header: bytes) -> None:
    async def scene(http: ClientWire, wire: Wire) -> None:
        http.data_received(HEAD + header * (MOST_HEAD_BYTES // len(header) + 1) + b"Content-Length: 2\r\n\r\n{}")
        # The task that answers.
        await asyncio.sleep(0)
        assert wire.written.startswith(b"HTTP/1.1 431")
        assert wire.closed

    on_wire(scene)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_long_body_is_no_long_head(chunked: bool) -> None:
    async def scene(http: ClientWire, wire: Wire) -> None:
        http.data_received(
            HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: 999999\r\n\r\n")
        )
        for _ in range(MOST_HEAD_BYTES // 500):
            http.data_received((b"3e8\r\n%s\r\n" if chunked else b"%s") % (b"a" * 1000))
        assert not wire.closed

    on_wire(scene)


@pytest.mark.parametrize("begun", [b"", b"POST", HEAD])
def test_a_head_has_a_time(begun: bytes) -> None:
    async def scene(http: ClientWire, wire: Wire) -> None:
        if begun:
            http.data_received(begun)
        leap(HEAD_S + 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert wire.closed

    on_wire(scene)


def test_an_answer_may_take_longer_than_a_head() -> None:
    async def scene(http: ClientWire, wire: Wire) -> None:
        http.data_received(HEAD + b"Content-Length: 2\r\n\r\n{}" + HEAD)
        for _ in range(3):
            leap(HEAD_S + 1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert not wire.closed

    on_wire(scene)
