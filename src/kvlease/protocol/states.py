"""The states of a lease and of both ends of a session, and the tables that drive them.

Each table has all that can happen: an event in a state that it does not name is a bug of kvlease, and raises
`ImpossibleEvent`. The diagrams in docs/protocol/states.md are made from these tables, as h11 makes its manual's.
"""

import enum
from collections.abc import Mapping
from typing import TypeVar

from kvlease.errors import ImpossibleEvent

S = TypeVar("S", bound=enum.StrEnum)
E = TypeVar("E", bound=enum.StrEnum)
T = TypeVar("T")


class LeaseState(enum.StrEnum):
    """The states of a lease on its producer. The lessor knows the lease from its grant on: before that its word is
    armed, but its token has not left the producer, so no consumer can speak of it."""

    PREPARED = "prepared"
    """Its word is armed in every worker; its prefill is not done."""
    GRANTED = "granted"
    """Its reference has left the producer, and nobody claims it."""
    CLAIMED = "claimed"
    """The session of at least one consumer holds it."""
    LAPSED = "lapsed"
    """Nobody holds it. Its blocks are free for others, and its word is armed until the first of them is given away:
    until then a late read is right, and a claim brings the lease back."""
    ENDED = "ended"
    """Its word is clear."""


class LeaseEvent(enum.StrEnum):
    """The events of a lease."""

    GRANT = "grant"
    """The prefill is done, and the reference leaves the producer."""
    ABORT = "abort"
    """Nobody will ever be told of it."""
    CLAIM = "claim"
    """A consumer's session begins to hold it; one that had lapsed lives again."""
    UNCLAIM = "unclaim"
    """Its last claim is void, and the term of its grant still runs."""
    RELEASE = "release"
    """Its last consumer drops it, or somebody does who has its token and never claimed it."""
    EXPIRE = "expire"
    """Its term is over and nobody claims it; or its last claim is void after that."""
    ORPHAN = "orphan"
    """Its last consumer is dead, and the grace is over."""
    AGE = "age"
    """It has reached its maximum age."""
    REVOKE = "revoke"
    """An operator ends it."""
    CLEAR = "clear"
    """Its word is clear in every worker: one of its blocks is about to be given to somebody else, its slot was needed,
    or the engine has reset its cache."""


class Cause(enum.StrEnum):
    """The cause for which a lease was over; the label of `kvlease:lease_ends_total`."""

    RELEASED = "released"
    """Its last consumer let go of it: the data was read, or the request ended."""
    EXPIRED = "expired"
    """Its term passed, or its consumers' renewals stopped while the transport still thought them alive."""
    ORPHANED = "orphaned"
    """The transport reported its last consumer dead, and nobody took over within the grace (R18, R23)."""
    ABORTED = "aborted"
    """Nobody was told of it: its prefill was aborted, or it is a sibling's, or that of a prompt behind the first of a
    list."""
    AGED_OUT = "aged_out"
    """It reached its maximum age, renewed or not (R25)."""
    REVOKED = "revoked"
    """An operator ended it (`POST leases/{token}/release`): nobody may read it again."""
    RESET = "reset"
    """Its engine ended it while it lived: its cache was reset, as for new weights. In the lessor's own count also a
    lease that was claimed again when its blocks had just gone."""


LEASE: Mapping[tuple[LeaseState, LeaseEvent], tuple[LeaseState, Cause | None]] = {
    (LeaseState.PREPARED, LeaseEvent.GRANT): (LeaseState.GRANTED, None),
    (LeaseState.PREPARED, LeaseEvent.ABORT): (LeaseState.ENDED, Cause.ABORTED),
    (LeaseState.GRANTED, LeaseEvent.CLAIM): (LeaseState.CLAIMED, None),
    (LeaseState.GRANTED, LeaseEvent.ABORT): (LeaseState.LAPSED, Cause.ABORTED),
    (LeaseState.GRANTED, LeaseEvent.RELEASE): (LeaseState.LAPSED, Cause.RELEASED),
    (LeaseState.GRANTED, LeaseEvent.EXPIRE): (LeaseState.LAPSED, Cause.EXPIRED),
    (LeaseState.GRANTED, LeaseEvent.AGE): (LeaseState.LAPSED, Cause.AGED_OUT),
    (LeaseState.GRANTED, LeaseEvent.REVOKE): (LeaseState.LAPSED, Cause.REVOKED),
    (LeaseState.GRANTED, LeaseEvent.CLEAR): (LeaseState.ENDED, Cause.RESET),
    (LeaseState.CLAIMED, LeaseEvent.CLAIM): (LeaseState.CLAIMED, None),
    (LeaseState.CLAIMED, LeaseEvent.UNCLAIM): (LeaseState.GRANTED, None),
    (LeaseState.CLAIMED, LeaseEvent.RELEASE): (LeaseState.LAPSED, Cause.RELEASED),
    (LeaseState.CLAIMED, LeaseEvent.EXPIRE): (LeaseState.LAPSED, Cause.EXPIRED),
    (LeaseState.CLAIMED, LeaseEvent.ORPHAN): (LeaseState.LAPSED, Cause.ORPHANED),
    (LeaseState.CLAIMED, LeaseEvent.AGE): (LeaseState.LAPSED, Cause.AGED_OUT),
    (LeaseState.CLAIMED, LeaseEvent.REVOKE): (LeaseState.LAPSED, Cause.REVOKED),
    (LeaseState.CLAIMED, LeaseEvent.CLEAR): (LeaseState.ENDED, Cause.RESET),
    (LeaseState.LAPSED, LeaseEvent.CLAIM): (LeaseState.CLAIMED, None),
    (LeaseState.LAPSED, LeaseEvent.CLEAR): (LeaseState.ENDED, None),
}
"""The next state of a lease, and the cause where it is over."""


class ConsumerState(enum.StrEnum):
    """The states of a session at its producer."""

    CLOSED = "closed"
    """Nothing is known of the consumer."""
    RESTING = "resting"
    """It claims nothing, and is kept for a while nevertheless."""
    ACTIVE = "active"
    """It claims leases, which live as long as it renews."""
    DEAD = "dead"
    """The transport has reported its process dead; only a new Hello brings it back."""


class ConsumerEvent(enum.StrEnum):
    """The events of a session at its producer."""

    HELLO = "hello"
    """The consumer's Hello has come, its first or another."""
    CLAIM = "claim"
    """It begins to hold a lease, or has claims when it says Hello again."""
    UNCLAIM = "unclaim"
    """The last of its claims is gone, for whatever reason."""
    LOST = "lost"
    """The transport says that the consumer's process is dead."""
    TIMEOUT = "timeout"
    """Its deadline has passed."""
    BYE = "bye"
    """The producer or the consumer says Bye."""


CONSUMER: Mapping[tuple[ConsumerState, ConsumerEvent], ConsumerState] = {
    (ConsumerState.CLOSED, ConsumerEvent.HELLO): ConsumerState.RESTING,
    (ConsumerState.RESTING, ConsumerEvent.HELLO): ConsumerState.RESTING,
    (ConsumerState.RESTING, ConsumerEvent.CLAIM): ConsumerState.ACTIVE,
    (ConsumerState.RESTING, ConsumerEvent.LOST): ConsumerState.DEAD,
    (ConsumerState.RESTING, ConsumerEvent.TIMEOUT): ConsumerState.CLOSED,
    (ConsumerState.RESTING, ConsumerEvent.BYE): ConsumerState.CLOSED,
    (ConsumerState.ACTIVE, ConsumerEvent.HELLO): ConsumerState.ACTIVE,
    (ConsumerState.ACTIVE, ConsumerEvent.UNCLAIM): ConsumerState.RESTING,
    (ConsumerState.ACTIVE, ConsumerEvent.LOST): ConsumerState.DEAD,
    (ConsumerState.DEAD, ConsumerEvent.HELLO): ConsumerState.RESTING,
    (ConsumerState.DEAD, ConsumerEvent.TIMEOUT): ConsumerState.CLOSED,
    (ConsumerState.DEAD, ConsumerEvent.BYE): ConsumerState.CLOSED,
}
"""The next state of a session at its producer. An active one has no timeout and no Bye: its claims go before
(UNCLAIM)."""


class ProducerState(enum.StrEnum):
    """The states of a session at its consumer."""

    CLOSED = "closed"
    """No lease of the producer is wanted."""
    SEEKING = "seeking"
    """The lease card is being fetched from the producer's side channel."""
    GREETING = "greeting"
    """Hello is sent, Welcome is waited for."""
    OPEN = "open"
    """Its leases are renewed."""


class ProducerEvent(enum.StrEnum):
    """The events of a session at its consumer."""

    WANT = "want"
    """A local request wants a lease of a producer that is not known."""
    CARD = "card"
    """The producer's card has come."""
    NO_CARD = "no_card"
    """Nobody answers at the side channel; or another incarnation does, or one that does not speak our version."""
    WELCOME = "welcome"
    """The producer has answered the Hello."""
    REOPEN = "reopen"
    """The producer asks for a new Hello."""
    SILENCE = "silence"
    """No copy of the last message was answered."""
    LOST = "lost"
    """The transport says that the producer cannot be reached."""
    LEAVE = "leave"
    """No local request wants a lease of the producer any more."""
    BYE = "bye"
    """The producer shuts down."""


PRODUCER: Mapping[tuple[ProducerState, ProducerEvent], ProducerState] = {
    (ProducerState.CLOSED, ProducerEvent.WANT): ProducerState.SEEKING,
    (ProducerState.SEEKING, ProducerEvent.CARD): ProducerState.GREETING,
    (ProducerState.SEEKING, ProducerEvent.NO_CARD): ProducerState.SEEKING,
    (ProducerState.SEEKING, ProducerEvent.LEAVE): ProducerState.CLOSED,
    (ProducerState.SEEKING, ProducerEvent.BYE): ProducerState.CLOSED,
    (ProducerState.GREETING, ProducerEvent.WELCOME): ProducerState.OPEN,
    (ProducerState.GREETING, ProducerEvent.SILENCE): ProducerState.SEEKING,
    (ProducerState.GREETING, ProducerEvent.LOST): ProducerState.SEEKING,
    (ProducerState.GREETING, ProducerEvent.LEAVE): ProducerState.CLOSED,
    (ProducerState.GREETING, ProducerEvent.BYE): ProducerState.CLOSED,
    (ProducerState.OPEN, ProducerEvent.REOPEN): ProducerState.GREETING,
    (ProducerState.OPEN, ProducerEvent.SILENCE): ProducerState.GREETING,
    (ProducerState.OPEN, ProducerEvent.LOST): ProducerState.SEEKING,
    (ProducerState.OPEN, ProducerEvent.LEAVE): ProducerState.CLOSED,
    (ProducerState.OPEN, ProducerEvent.BYE): ProducerState.CLOSED,
}
"""The next state of a session at its consumer. Silence leads back by one state; a producer that the transport reports
lost is looked for again."""


def after(table: Mapping[tuple[S, E], T], state: S, event: E) -> T:
    """Returns the table's row for an event in a state. Raises `ImpossibleEvent` where there is none."""
    try:
        return table[state, event]
    except KeyError:
        raise impossible(state, event) from None


def impossible(state: enum.StrEnum, event: enum.StrEnum) -> ImpossibleEvent:
    """Returns the error for an event in a state for which the table has no row."""
    return ImpossibleEvent(f"{event} cannot happen in the state {state}: no row of {type(state).__name__}")
