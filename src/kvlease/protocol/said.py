"""The events that an engine reports to its agent, in the order in which they happened: the input of `Peer.turn`.

A producer says Grant, Extend, Release, Abort, Revoke and Cleared; a consumer says Track and Untrack. Progress is given
in each turn.
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


class Release(msgspec.Struct, frozen=True):
    """A stock consumer has told every worker that it has read."""

    token: int


class Abort(msgspec.Struct, frozen=True):
    """The lease is not handed over after all: nobody will ever claim it."""

    token: int


class Revoke(msgspec.Struct, frozen=True):
    """An operator ends the lease: nobody may hold it again."""

    token: int


class Cleared(msgspec.Struct, frozen=True):
    """The lease's word is clear in every worker: nobody can read it any more."""

    token: int


class Track(msgspec.Struct, frozen=True):
    """The local request `holder` wants this lease kept."""

    holder: str
    ref: LeaseRef
    endpoint: Endpoint
    """The producer's side channel."""
    siblings: bool = False
    """True when siblings of the request (n > 1) may want the same lease."""


class Untrack(msgspec.Struct, frozen=True):
    """The local request `holder` has its data, or has ended."""

    holder: str


class Progress(msgspec.Struct, frozen=True):
    """The engine began its latest step at `at` (monotonic seconds), or, if not `stepping`, ended it then."""

    at: float
    stepping: bool


Said = Grant | Extend | Release | Abort | Revoke | Cleared | Track | Untrack
