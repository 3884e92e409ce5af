"""What an engine says to its agent, in the order in which it happened: what goes into a turn of `Peer`.

As a producer: Grant, Extend, Abort, Cleared. As a consumer: Track, Untrack. Of itself: Progress, in each turn.
"""

import msgspec

from kvlease.protocol.card import Endpoint
from kvlease.protocol.lease import LeaseRef


class Grant(msgspec.Struct, frozen=True):
    """The prefill is done; the lease's term begins. It is said before the token can leave the engine."""

    token: int


class Extend(msgspec.Struct, frozen=True):
    """A stock consumer's heartbeat named the lease."""

    token: int


class Abort(msgspec.Struct, frozen=True):
    """What was granted is not handed over after all: nobody will ever claim it."""

    token: int


class Cleared(msgspec.Struct, frozen=True):
    """Every worker has cleared the lease's word and let go of its blocks."""

    token: int


class Track(msgspec.Struct, frozen=True):
    """The local request `holder` wants this lease kept."""

    holder: str
    ref: LeaseRef
    endpoint: Endpoint
    """The producer's side channel."""
    siblings: bool = False
    """Others of the same request (n > 1) may come for the lease."""


class Untrack(msgspec.Struct, frozen=True):
    """The local request `holder` has its data, or ended."""

    holder: str


class Progress(msgspec.Struct, frozen=True):
    """The engine began its latest step at `at` (monotonic seconds), or, not `stepping`, has ended it then."""

    at: float
    stepping: bool


Said = Grant | Extend | Abort | Cleared | Track | Untrack
