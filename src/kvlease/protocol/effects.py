"""The effects: all that the protocol asks its owner to do, as in a sans-I/O library.

Lessor and lessee never act; they return these, in the order in which they are to be carried out.
"""

import msgspec

from kvlease.protocol.messages import Message
from kvlease.protocol.states import Cause


class Send(msgspec.Struct, frozen=True):
    """Send `message` to `peer`. If the transport says that the peer is gone, call `Peer.lost`."""

    peer: int
    message: Message


class Connect(msgspec.Struct, frozen=True):
    """Make `peer` reachable at `address` (the transport's own form), unless it is."""

    peer: int
    address: bytes


class Disconnect(msgspec.Struct, frozen=True):
    """Forget `peer`: nothing more will be sent to it."""

    peer: int


class Fetch(msgspec.Struct, frozen=True):
    """Fetch the lease card served at `endpoint` and hand it, or None, to the next `Peer.turn`."""

    endpoint: tuple[str, int]


class Lapse(msgspec.Struct, frozen=True):
    """The producer's lease is over: give its blocks back. Before one of them is given to anybody else, clear its word
    in every worker; then say `Cleared`."""

    token: int
    cause: Cause


class Revive(msgspec.Struct, frozen=True):
    """The producer's lease, which had lapsed, is claimed again: take its blocks back, unless its word is clear."""

    token: int


class Lose(msgspec.Struct, frozen=True):
    """The consumer's lease for this request is lost: its blocks must not be read."""

    holder: str


LeaseNews = Lapse | Revive
"""The news of leases for the producer's engine."""
Effect = Send | Connect | Disconnect | Fetch | Lapse | Revive | Lose
