"""The agreement of what consumers believe and what producers hold, whatever was lost, late or repeated (S4, R20, L2).

The two sides are told apart from each other: `Stated` and `believed` are what a consumer's lessee says of itself,
`Granted` what a producer's lessor does. So whoever plays a world may look at one of them at a time.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from kvlease.protocol import Cause, LesseeSnapshot, LessorSnapshot
from kvlease.protocol.states import ProducerState
from proof.promises.safety import Violation
from proof.promises.structure import LIVE

MILLISECOND = 0.001
NOT_TOLD = frozenset({Cause.AGED_OUT, Cause.ORPHANED, Cause.REVOKED})
"""Causes for which a lease may be over without its consumer's knowledge: it does not count a lease's age, a death
report may be false, and of an operator's act it hears when its word is clear."""


class Stated(NamedTuple):
    """A consumer's session with one producer, as the consumer sees it."""

    producer: int
    number: int
    is_open: bool
    leases: frozenset[int]
    drops: frozenset[int]
    """Drops that are not yet acknowledged."""


class Session(NamedTuple):
    """A consumer's session, as its producer sees it."""

    consumer: int
    number: int
    claims: frozenset[int]


class Granted(NamedTuple):
    """The leases and sessions that a producer holds."""

    producer: int
    live: frozenset[int]
    """Leases that can be renewed."""
    sessions: tuple[Session, ...]


def stated(lessee: LesseeSnapshot) -> tuple[Stated, ...]:
    """A consumer's sessions, as it states them itself."""
    return tuple(
        Stated(
            session.producer,
            session.number,
            session.state is ProducerState.OPEN,
            frozenset(lease.token for lease in session.leases),
            session.drops,
        )
        for session in lessee.sessions
    )


def granted(lessor: LessorSnapshot) -> Granted:
    """A producer's leases and sessions, as it states them itself."""
    return Granted(
        lessor.incarnation,
        frozenset(lease.token for lease in lessor.leases if lease.state in LIVE),
        tuple(Session(session.consumer, session.number, session.claims) for session in lessor.sessions),
    )


def believed(lessee: LesseeSnapshot, now: float) -> frozenset[tuple[int, int]]:
    """The leases that a consumer believes to hold, as (producer, token): those that `Lessee.standing` calls HELD."""
    return frozenset(
        (session.producer, lease.token)
        for session in lessee.sessions
        for lease in session.leases
        if lease.holders and lease.acknowledged and now + MILLISECOND < session.held_until
    )


def check_beliefs(
    beliefs: Iterable[tuple[int, int]], consumer: int, held: Granted, causes: dict[int, Cause], ended: Set[int]
) -> None:
    """Check that a producer holds what a consumer believes to hold, but for age and a death report (L2).

    `ended`: the leases that are no more. A lease that had lapsed and was claimed again may turn out to be among them a
    moment later, when the claim has been acknowledged.

    To be asked of a producer that lives, and that was not told of the consumer's death a moment ago.
    """
    claims = {session.consumer: session.claims for session in held.sessions}
    for producer, token in beliefs:
        if producer != held.producer or token in ended or causes.get(token) in NOT_TOLD:
            continue
        if token not in claims.get(consumer, ()):
            raise Violation("L2", f"{consumer:x} believes that it holds {token:x}, which ended: {causes.get(token)}")


def check_loss(consumer: int, token: int, held: Granted) -> None:
    """Check that the producer does not hold a lease of which a consumer is told that it is lost (R20)."""
    if token in held.live:
        raise Violation("R20", f"{consumer:x} was told that {token:x} is lost, but its producer holds it")


@dataclass(slots=True)
class Settled:
    """The facts that nothing may change: leases that have ended, and drops that were acknowledged (S3, S4)."""

    causes: dict[int, Cause] = field(default_factory=dict)
    """The cause for which each lease was over last."""
    ended: set[int] = field(default_factory=set)
    """The leases whose producer's lessor has heard that their word is clear."""
    _claimants: dict[int, set[int]] = field(default_factory=dict)
    _dropping: dict[tuple[int, int], int] = field(default_factory=dict)
    """The producer of each drop on its way, by (consumer, token)."""
    _settled: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """The (producer, number of its session) of each drop that was acknowledged, by (consumer, token)."""

    def lapsed(self, token: int, cause: Cause) -> None:
        """A lease is over; it may be claimed again, until it has ended."""
        if token in self.ended:
            raise Violation("S3", f"{token:x} has ended, and lapsed after that: {cause}")
        self.causes[token] = cause

    def has_ended(self, token: int) -> None:
        """The lessor has heard that the lease's word is clear."""
        self.ended.add(token)

    def look(self, consumer: int, sessions: tuple[Stated, ...]) -> None:
        """Take note of what a consumer says now; to be called after each of its turns."""
        open_to = {session.producer for session in sessions}
        for key in [k for k, producer in self._dropping.items() if k[0] == consumer and producer not in open_to]:
            del self._dropping[key]
        for session in sessions:
            for token in session.drops:
                self._dropping[consumer, token] = session.producer
            for token in session.leases:
                self._claimants.setdefault(token, set()).add(consumer)
                self._dropping.pop((consumer, token), None)
                self._settled.pop((consumer, token), None)
            for key in [k for k, p in self._dropping.items() if k[0] == consumer and p == session.producer]:
                if session.is_open and key[1] not in session.drops:
                    self._settled[key] = (session.producer, session.number)
                    del self._dropping[key]

    def check(self, held: Granted) -> None:
        """Check that nothing late brought back a lease that has ended, or a claim whose drop was acknowledged."""
        for token in held.live & self.ended:
            raise Violation("S3", f"{token:x} has ended and came back")
        sessions = {session.consumer: session for session in held.sessions}
        for (consumer, token), (producer, number) in self._settled.items():
            if producer != held.producer:
                continue
            if token in held.live and self._claimants.get(token, {consumer}) == {consumer}:
                raise Violation("S4", f"{token:x} was dropped, and that was acknowledged; it is held")
            session = sessions.get(consumer)
            if session is not None and session.number == number and token in session.claims:
                raise Violation("S4", f"{consumer:x} claims {token:x}, which it has dropped")
