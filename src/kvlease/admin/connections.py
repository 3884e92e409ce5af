"""The connections of the agent's own listener: never more than so many, and nobody's silence keeps others out.

uvicorn takes any number of connections, and answers none of them while there are too many. So whoever opened some and
said nothing would keep a preStop out, and could use up the file descriptors of the engine's process.
"""

import asyncio
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 128
"""The most connections at a time."""


class BoundedHttp(H11Protocol):
    """HTTP on one connection. The oldest that has no request under way gives way to a new one.

    Attributes: `opened_at`, on the clock of its loop.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self.connections) >= MOST_CONNECTIONS:
            self._make_room()
        self.opened_at = self.loop.time()
        super().connection_made(cast(asyncio.Transport, transport))

    def _make_room(self) -> None:
        others = [other for other in self.connections if isinstance(other, BoundedHttp)]
        # Where each has a request under way, it is the oldest of all.
        oldest = min(others, key=lambda other: (other.is_busy, other.opened_at))
        # uvicorn forgets it later, and another one may come before.
        self.connections.discard(oldest)
        oldest.transport.abort()

    @property
    def is_busy(self) -> bool:
        """Tells whether a request is under way on it."""
        return self.cycle is not None and not self.cycle.response_complete
