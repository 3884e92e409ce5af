"""What the protocol asks its surroundings to do: events out, as in a sans-I/O library.

Lessor and lessee never act; they return these, in the order in which they are to be carried out.
"""

from dataclasses import dataclass

from kvlease.protocol.lease import Cause
from kvlease.protocol.messages import Message


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to `peer`. If the transport says that the peer is gone, tell `peer_lost`."""

    peer: int
    message: Message


@dataclass(frozen=True, slots=True)
class Connect:
    """Make `peer` reachable at `address` (the transport's own form), unless it is."""

    peer: int
    address: bytes


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Forget `peer`: nothing more will be sent to it."""

    peer: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch the lease card served at `endpoint` and hand it, or None, to `Lessee.card_fetched`."""

    endpoint: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Revoke:
    """Producer: clear the lease's word in every worker, then free its blocks, then call `Lessor.ended`."""

    token: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Lose:
    """Consumer: the lease of this request is lost; its blocks must not be read."""

    holder: str


Effect = Send | Connect | Disconnect | Fetch | Revoke | Lose
