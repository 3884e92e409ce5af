"""The records that a consumer keeps: the leases that it wants, and its session with each producer."""

import enum
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from kvlease.protocol.card import Endpoint
from kvlease.protocol.messages import TOKENS_PER_MESSAGE
from kvlease.protocol.states import PRODUCER, ProducerEvent, ProducerState, after
from kvlease.protocol.timing import Timing

MAX_PLACES = 16
"""The most places kept for a session; beyond it, only those that a request names are kept."""
MAX_FAILURES = 16
"""The most failures that are counted of a place: the pause between attempts is at its longest long before."""


class Standing(enum.Enum):
    """The knowledge that a consumer has of a lease."""

    TRACKED = "tracked"
    """The lease is wanted; the producer's acknowledgement that it is held is missing, or too old."""
    HELD = "held"
    """The producer holds the lease: it has acknowledged the claim, and a renewal within the last extension."""
    LOST = "lost"
    """The producer does not hold the lease: its blocks must not be read."""


class WantView(NamedTuple):
    """A lease at its consumer."""

    token: int
    endpoint: Endpoint
    holders: frozenset[str]
    """The local requests that want it; none while it is kept for siblings that may still come."""
    acknowledged: bool


class ProducerView(NamedTuple):
    """A session with a producer, as its consumer knows it."""

    producer: int
    endpoint: Endpoint
    state: ProducerState
    number: int
    fetching: bool
    leases: tuple[WantView, ...]
    claims: frozenset[int]
    """The tokens that are claimed, and not yet acknowledged."""
    drops: frozenset[int]
    """The tokens that are dropped, and not yet acknowledged."""
    unanswered: int
    """The number of copies of messages whose answers are waited for."""
    held_until: float


@dataclass(slots=True)
class WantedLease:
    """A lease that is wanted here and was not reported lost."""

    endpoint: Endpoint
    holders: set[str] = field(default_factory=set)
    """The local requests that want it: siblings (n > 1) share one."""
    acknowledged: bool = False
    lingers: bool = False
    """True when a holder of it has siblings, which may still want it after its last known holder has ended."""


@dataclass(frozen=True, slots=True)
class Window:
    """Claims and drops on their way: the same in every copy, so an Ack of any copy settles all of them."""

    first_seq: int
    claims: list[int]
    drops: list[int]


@dataclass(slots=True)
class Place:
    """A side channel at which a producer may be found."""

    due: float
    """The time to look there next, in monotonic seconds."""
    failures: int = 0
    """The number of attempts since the last Welcome."""


@dataclass(slots=True)
class ProducerSession:
    """This consumer's session with one producer incarnation."""

    producer: int
    endpoint: Endpoint
    """The side channel where it was last found, or is looked for."""
    state: ProducerState = ProducerState.CLOSED
    leases: dict[int, WantedLease] = field(default_factory=dict)
    pending: OrderedDict[int, bool] = field(default_factory=OrderedDict)
    """The changes not yet in a window: token to True for a claim, False for a drop. The latest change of a token
    counts.

    Windows are taken from its front. A plain dict would keep the deleted entries there, and walk over them at every
    later look at its first entry.
    """
    window: Window | None = None
    sent_at: dict[int, float] = field(default_factory=dict)
    """The send time of each unanswered seq: an Ack of it proves that the producer extended the leases after it."""
    number: int = 0
    """The session's number, from the producer's Welcome."""
    tries: int = 0
    """The number of copies sent since the last answer."""
    places: dict[Endpoint, Place] = field(default_factory=dict)
    """The places where the producer may be found, while the session is not open."""
    fetching: bool = False
    extension_s: float = 0.0
    interval_s: float = 0.0
    held_until: float = float("-inf")
    wanted_at: float = float("-inf")
    """The time at which a local request was last seen to want a lease of it."""

    @property
    def idle(self) -> bool:
        return not self.leases and not self.pending and self.window is None

    def happen(self, event: ProducerEvent) -> None:
        """Moves the session to the state that the table gives."""
        self.state = after(PRODUCER, self.state, event)

    def snapshot(self) -> ProducerView:
        """Returns all that is known of the session now."""
        window = self.window or Window(0, [], [])
        pending = {token for token, claimed in self.pending.items() if claimed}
        return ProducerView(
            self.producer,
            self.endpoint,
            self.state,
            self.number,
            self.fetching,
            tuple(WantView(t, x.endpoint, frozenset(x.holders), x.acknowledged) for t, x in self.leases.items()),
            frozenset(pending.union(window.claims)),
            frozenset((self.pending.keys() - pending).union(window.drops)),
            len(self.sent_at),
            self.held_until,
        )

    def place(self, endpoint: Endpoint, now: float) -> Place:
        """Returns the record of this place; a new place is due at once."""
        return self.places.setdefault(endpoint, Place(now))

    def next_window(self, seq: int) -> Window:
        """Takes the next changes to be sent, as many as fit into one message."""
        changes = [self.pending.popitem(last=False) for _ in range(min(len(self.pending), TOKENS_PER_MESSAGE))]
        claims = [token for token, claimed in changes if claimed]
        return Window(seq, claims, [token for token, claimed in changes if not claimed])

    def restate(self) -> None:
        """Makes every claim pending again, as a Hello demands. Drops that the producer may not have heard are kept."""
        drops = [token for token, claimed in self.pending.items() if not claimed]
        if self.window is not None:
            drops += self.window.drops
        self.window = None
        for wanted in self.leases.values():
            wanted.acknowledged = False
        self.pending = OrderedDict.fromkeys(drops, False) | OrderedDict.fromkeys(self.leases, True)

    def look_again(self, now: float, timing: Timing) -> float:
        """Returns when to look for the producer: at once where it was found last, then with growing pauses per
        place."""
        place = self.places.get(self.endpoint)
        if place is None:
            self.place(self.endpoint, now)
        else:
            pause_s = timing.retry_s * 2 ** (place.failures - 1) if place.failures else 0.0
            place.due = now + min(pause_s, timing.backoff_max_s)
            place.failures = min(place.failures + 1, MAX_FAILURES)
        for wanted in self.leases.values():
            self.place(wanted.endpoint, now)
        return self.places[self.next_place()].due

    def next_place(self) -> Endpoint:
        """Returns the place to look at next: the one that has been due for longest.

        Requests may name several places for one producer, and clients may have made them up: each has pauses of its
        own, so that no place keeps another from being tried.
        """
        if len(self.places) > MAX_PLACES:
            named = {tracked.endpoint for tracked in self.leases.values()} | {self.endpoint}
            self.places = {endpoint: place for endpoint, place in self.places.items() if endpoint in named}
        return min(self.places, key=lambda endpoint: (self.places[endpoint].due, self.places[endpoint].failures))
