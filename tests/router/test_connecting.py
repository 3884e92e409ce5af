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
