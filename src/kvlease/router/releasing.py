"""Releases: prefills that nobody will read, told to their producers in the background, so that no client waits.

A decode engine that is sent a request which it refuses tells the producer, as vLLM does for every refused request that
has a reference. Where no decode engine answers, the producer's own listener is asked; where that does not answer
either, the lease's term ends it.
"""

import asyncio
from collections.abc import Callable, Mapping

from kvlease.router.actions import KvReference, ReleaseLease
from kvlease.router.bodies import Api, for_release
from kvlease.router.upstream import CallFailed, EngineConnections

MOST_AT_ONCE = 64
"""The most releases that are under way at a time."""
MOST_WAITING = 10_000
"""The most that wait; what is more is left to its term."""
_REFUSALS = (400, 404, 422)
"""The statuses with which vLLM refuses a request that it has read."""
_OVER = (200, 409)
"""The statuses of a listener for a lease that is over now, or was already."""


class LeaseReleases:
    """All releases that are under way."""

    def __init__(self, connections: EngineConnections, limit_s: float, count: Callable[[str], None]) -> None:
        """`limit_s`: for each question to an engine. `count` is told the way that worked: decode, prefill or term."""
        self._connections = connections
        self._limit_s = limit_s
        self._count = count
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, action: ReleaseLease, headers: Mapping[str, str]) -> None:
        """Begins a release; `headers`: those of the request that it was for, which has the keys."""
        if len(self._tasks) >= MOST_WAITING:
            self._count("term")
            return
        task = asyncio.get_running_loop().create_task(self._release(action, headers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, limit_s: float) -> None:
        """Waits until all are done, at most so long, and gives up the others."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=limit_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _release(self, action: ReleaseLease, headers: Mapping[str, str]) -> None:
        way = "term"
        try:
            async with self._turns:
                way = await self._way(action, headers)
        finally:
            self._count(way)

    async def _way(self, action: ReleaseLease, headers: Mapping[str, str]) -> str:
        for engine in action.by:
            body = for_release(action.reference.params)
            if await self._status(engine, Api.COMPLETIONS, body, headers) in _REFUSALS:
                return "decode"
        if await self._is_over_at_producer(action.producer, action.reference, headers):
            return "prefill"
        return "term"

    async def _is_over_at_producer(self, producer: str, reference: KvReference, headers: Mapping[str, str]) -> bool:
        if reference.token is None:
            return False
        path = f"/v1/kvlease/leases/{reference.token}/release"
        return await self._status(producer, path, b"", headers) in _OVER

    async def _status(self, engine: str, path: str, body: bytes, headers: Mapping[str, str]) -> int | None:
        with self._connections.call(engine) as call:
            try:
                async with call.within(self._limit_s):
                    status = await call.begin(path, body, {**headers, "content-type": "application/json"})
                    await call.rest()
                    return status
            except CallFailed:
                return None
