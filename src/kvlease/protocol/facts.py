"""The facts: all that a peer tells whoever watches it, as it happens, for figures and for the story of a lease.

Nothing depends on them. They are made only where somebody watches (`tell` of `Peer`), and carry no time of day: who
watches knows when.
"""

from collections.abc import Callable

import msgspec

from kvlease.protocol.card import Endpoint
from kvlease.protocol.states import Cause, ConsumerEvent, ProducerEvent


class LeaseClaimed(msgspec.Struct, frozen=True, gc=False):
    """A consumer's session begins to hold a lease."""

    token: int
    consumer: int
    """The consumer's incarnation."""
    age_s: float
    """The time since the grant."""
    first: bool
    """True for the first claim that the lease ever had."""
    revived: bool
    """True where the lease had lapsed, and lives again."""


class LeaseLapsed(msgspec.Struct, frozen=True, gc=False):
    """A producer's lease is over: its blocks are free for others."""

    token: int
    cause: Cause
    age_s: float
    """The time since the grant."""
    claimed_s: float | None
    """The time since its first claim; None where nobody ever claimed it."""


class LeaseEnded(msgspec.Struct, frozen=True, gc=False):
    """A lease's word is clear: it can be read no more."""

    token: int
    cause: Cause | None
    """The cause, where it ended while it lived; None where it had lapsed before."""


class SessionRenewed(msgspec.Struct, frozen=True, gc=False):
    """A renewal of a session that holds leases has come."""

    consumer: int
    remaining_s: float
    """The time that was left until the session's claims would have been void."""
    claims: int


class ConsumerSilent(msgspec.Struct, frozen=True, gc=False):
    """A consumer has not renewed in time: all its claims are void."""

    consumer: int
    claims: int


class ConsumerChanged(msgspec.Struct, frozen=True, gc=False):
    """A consumer's session at its producer is opened, opened anew, found dead, or over."""

    consumer: int
    engine_id: str
    """The consumer's engine, by its own word."""
    event: ConsumerEvent
    claims: int


class LeaseWanted(msgspec.Struct, frozen=True, gc=False):
    """A local request wants a producer's lease."""

    holder: str
    token: int
    producer: int
    """The producer's incarnation."""


class LeaseHeld(msgspec.Struct, frozen=True, gc=False):
    """The producer has acknowledged that the lease is held for this consumer."""

    token: int
    producer: int


class LeaseLost(msgspec.Struct, frozen=True, gc=False):
    """A local request's lease is lost: its blocks must not be read."""

    holder: str
    token: int


class LeaseLetGo(msgspec.Struct, frozen=True, gc=False):
    """No local request wants the lease any more: the producer is told."""

    token: int
    producer: int


class RenewalAnswered(msgspec.Struct, frozen=True, gc=False):
    """A producer has acknowledged a message of renewal."""

    producer: int
    after_s: float
    """The time since that copy of it was sent."""


class ProducerChanged(msgspec.Struct, frozen=True, gc=False):
    """A session with a producer has come to another state."""

    producer: int
    endpoint: Endpoint
    event: ProducerEvent


OfProducer = LeaseClaimed | LeaseLapsed | LeaseEnded | SessionRenewed | ConsumerSilent | ConsumerChanged
OfConsumer = LeaseWanted | LeaseHeld | LeaseLost | LeaseLetGo | RenewalAnswered | ProducerChanged
Fact = OfProducer | OfConsumer
Tell = Callable[[Fact], None]
"""The function that hears facts, in the thread that takes the turns: it must be quick, and must not raise."""
