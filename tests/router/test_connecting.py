"""An engine is unreachable when it does not take a connection in time; not when the router itself is late."""

import asyncio
import socket
import time

import pytest

from kvlease.router.upstream import EngineCallFailed, EngineConnections
from kvlease.routing.failures import EngineFailure
from kvlease.testing.http_engines import FakeEngine

CONNECT_S = 0.05


async def ask(url: str) -> int:
    connections = EngineConnections(CONNECT_S)
    try:
        with connections.call(url) as call:
            return await call.begin("/health", b"", {}, "GET")
    finally:
        await connections.close()


def test_a_router_that_stood_still_while_it_connected_does_not_take_the_engine_for_dead() -> None:
    async def scene() -> None:
        async with FakeEngine("decode") as engine:
            loop = asyncio.get_running_loop()
            asking = asyncio.create_task(ask(engine.url))
            # The connection begins, and then nothing of this process runs for longer than it may take.
            for _ in range(3):
                loop.call_soon(time.sleep, 2 * CONNECT_S)
                await asyncio.sleep(0)
            assert await asking == 200

    asyncio.run(scene())


def test_an_engine_that_takes_no_connection_is_unreachable() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        # The queue of a listener that accepts nobody is full after the first one.
        with socket.create_connection(full.getsockname()), pytest.raises(EngineCallFailed) as failed:
            asyncio.run(ask(url))
    assert failed.value.failure is EngineFailure.UNREACHABLE


def test_an_answer_that_is_there_is_not_lost_when_its_client_leaves() -> None:
    async def scene() -> None:
        connections = EngineConnections(CONNECT_S)
        async with FakeEngine("decode") as engine:
            with connections.call(engine.url) as call:
                async with call.within(5.0):
                    await call.begin("/health", b"", {}, "GET")
                    await call.rest()
                    # The connection waits to be used again, and the offer is still to be read by whoever asked.
                    assert call.hang_up()
            await connections.close()

    asyncio.run(scene())


def test_a_connection_that_is_closed_on_one_side_is_nobody_elses() -> None:
    asked, over = 0, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        # It answers once its client has hung up, as one does whose answer was on its way.
        await reader.read()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await over.wait()
        writer.close()

    async def scene() -> None:
        connections = EngineConnections(CONNECT_S)
        async with await asyncio.start_server(answer, "127.0.0.1") as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with connections.call(url) as first:
                async with first.within(5.0):
                    asking = asyncio.create_task(first.whole("/", b"", {}))
                    while not first.hang_up():
                        await asyncio.sleep(0)
                    assert (await asking).body == b"{}"
                with connections.call(url) as second:
                    async with second.within(5.0):
                        other = asyncio.create_task(second.whole("/", b"", {}))
                        while not second.hang_up():
                            await asyncio.sleep(0)
                        assert (await other).body == b"{}"
            await connections.close()
            over.set()
        assert asked == 2

    asyncio.run(scene())
