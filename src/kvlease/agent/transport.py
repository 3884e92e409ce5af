"""The network as a lease agent needs it.

A peer is known by its incarnation, the random u64 its agent drew when it started (docs/protocol/index.md): a restarted
engine is another peer, so a transport never confuses the two. Nothing here promises delivery or order; the protocol
does not need either.
"""

from typing import Protocol


class Transport(Protocol):
    """Small messages between lease agents. Used by one thread only, the agent's.

    Implementations: `kvlease.agent.nixl.NixlTransport` (NIXL notifications), `kvlease.testing.network.MemoryTransport`.
    """

    foreign: int
    """The number of messages dropped because they came from no lease agent."""

    @property
    def address(self) -> bytes:
        """The bytes that a peer needs to connect to this agent; opaque (for NIXL: the agent's metadata, some 450 B)."""
        ...

    def connect(self, peer: int, address: bytes) -> None:
        """Make `peer` reachable by `send`; a no-op when it is. `address` is the peer's `address`.

        Raises `PeerGone` when the address cannot be used or belongs to another incarnation than `peer`.
        """
        ...

    def send(self, peer: int, payload: bytes) -> None:
        """Hand `payload` to the network; does not wait for the peer.

        Raises `PeerGone` when the peer is not connected, dead or unreachable. It stays so until it is disconnected
        and connected again.
        """
        ...

    def receive(self) -> list[tuple[int, bytes]]:
        """Returns all that has arrived since the last call, as (sender's incarnation, payload); never waits."""
        ...

    def disconnect(self, peer: int) -> None:
        """Forget `peer` and free what was held for it; a no-op when it is not connected."""
        ...

    def close(self) -> None:
        """Free everything. Nothing else may be called afterwards."""
        ...
