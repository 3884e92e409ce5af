"""A consumer's way to the leases of producers: one connection to each, whose end is the consumer's death."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import msgspec

PATH = "/fake/leases"
"""The route of a fake producer that consumers speak to, at the host and port of its offers."""

T = TypeVar("T")


class EngineDied(Exception):
    """The fault DIE has struck."""


class BlockReader:
    """The connections of one consumer."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, int], tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        self._turns: dict[tuple[str, int], asyncio.Lock] = {}
        self._going_on: set[asyncio.Task[Any]] = set()

    async def take(self, params: Mapping[str, Any], digest: int, *, dying: bool) -> str:
        """Reads what a reference names. Returns read, or recomputed or unfenced where that is not the prompt's.

        Raises `EngineDied` in the middle of it, if the engine is `dying`.
        """
        return await self._to_its_end(self._take(params, digest, dying=dying))

    async def let_go(self, params: Mapping[str, Any], how: str) -> None:
        """Tells the producer that nobody here will read it; `how`: release, or return."""
        await self._to_its_end(self._ask(params, how))

    async def _take(self, params: Mapping[str, Any], digest: int, *, dying: bool) -> str:
        if not await self._ask(params, "claim", digest):
            return "recomputed" if "kv_lease" in params else "unfenced"
        if dying:
            raise EngineDied
        await self._ask(params, "read")
        return "read"

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for work that goes on where the client is gone, as a half said question would."""
        task = asyncio.ensure_future(work)
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)
        return await asyncio.shield(task)

    async def _ask(self, params: Mapping[str, Any], what: str, digest: int = 0) -> bool:
        """Returns whether the producer did it; False also where it is dead."""
        place = (str(params["remote_host"]), int(params["remote_port"]))
        question = msgspec.json.encode({"do": what, "lease": params["remote_request_id"], "digest": digest})
        async with self._turns.setdefault(place, asyncio.Lock()):
            # A connection that was there may be to a producer that has been started again since.
            for _ in range(2 if place in self._streams else 1):
                try:
                    return await self._exchange(place, question)
                except (OSError, asyncio.IncompleteReadError):
                    self._forget(place)
            return False

    def close(self) -> None:
        """Ends all connections, as a death does."""
        for place in list(self._streams):
            self._forget(place)

    async def _exchange(self, place: tuple[str, int], question: bytes) -> bool:
        if place not in self._streams:
            self._streams[place] = await asyncio.open_connection(*place)
        reader, writer = self._streams[place]
        writer.write(b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (PATH.encode(), len(question), question))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        answer = msgspec.json.decode(await reader.readexactly(length))
        return bool(answer["done"])

    def _forget(self, place: tuple[str, int]) -> None:
        streams = self._streams.pop(place, None)
        if streams is not None:
            streams[1].transport.abort()
