"""The effects: all that the protocol asks its owner to do, as in a sans-I/O library.

Lessor and lessee never act; they return these, in the order in which they are to be carried out.
"""

from dataclasses import dataclass

from kvlease.protocol.messages import Message
from kvlease.protocol.states import Cause


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to `peer`. If the transport says that the peer is gone, call `Peer.lost`."""

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
    """Fetch the lease card served at `endpoint` and hand it, or None, to the next `Peer.turn`."""

    endpoint: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Revoke:
    """The producer's lease is over: clear its word in every worker, then free its blocks, then say `Cleared`."""

    token: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Lose:
    """The consumer's lease for this request is lost: its blocks must not be read."""

    holder: str


Effect = Send | Connect | Disconnect | Fetch | Revoke | Lose
