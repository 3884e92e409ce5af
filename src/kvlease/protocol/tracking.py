"""What a consumer keeps in mind: its leases, and its session with each producer."""

import enum
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from kvlease.protocol.card import Endpoint
from kvlease.protocol.messages import TOKENS_PER_MESSAGE
from kvlease.protocol.states import PRODUCER, ProducerEvent, ProducerState, after
from kvlease.protocol.timing import Timing

MAX_PLACES = 16
"""Places kept for a session beside those that a request names."""
MAX_FAILURES = 16
"""Failures that are counted of a place: the pause between attempts is at its longest long before."""


class Standing(enum.Enum):
    """What a consumer knows of a lease."""

    TRACKED = "tracked"
    """Wanted; the producer's word that it is held is missing, or too old."""
    HELD = "held"
    """The producer holds it: it has acknowledged the claim, and a renewal within the last extension."""
    LOST = "lost"
    """The producer does not hold it. It must not be read."""


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
    """What is claimed and not yet acknowledged."""
    drops: frozenset[int]
    """What is dropped and not yet acknowledged."""
    unanswered: int
    """Copies of messages whose answers are waited for."""
    held_until: float


@dataclass(slots=True)
class WantedLease:
    """A lease that is wanted here and was not reported lost."""

    endpoint: Endpoint
    holders: set[str] = field(default_factory=set)
    """The local requests that want it: siblings (n > 1) share one."""
    acknowledged: bool = False
    lingers: bool = False
    """A holder of it has siblings, which may still come for it when the last that is known is through."""


@dataclass(frozen=True, slots=True)
class Window:
    """Changes on their way: the same in every copy, so an Ack of any copy settles all of them."""

    first_seq: int
    claims: list[int]
    drops: list[int]


@dataclass(slots=True)
class Place:
    """A side channel at which a producer may be found."""

    due: float
    """When to look there."""
    failures: int = 0
    """Attempts since the last Welcome."""


@dataclass(slots=True)
class ProducerSession:
    """This consumer's relation to one producer incarnation."""

    producer: int
    endpoint: Endpoint
    """The side channel where it was last found, or is looked for."""
    state: ProducerState = ProducerState.CLOSED
    leases: dict[int, WantedLease] = field(default_factory=dict)
    pending: OrderedDict[int, bool] = field(default_factory=OrderedDict)
    """Changes not yet in a window: token to True for a claim, False for a drop. The last word on a token wins.

    Windows are taken from its front. A plain dict keeps room for what was deleted there, and every later look at its
    first entry walks over it.
    """
    window: Window | None = None
    sent_at: dict[int, float] = field(default_factory=dict)
    """Send time of each unanswered seq: an Ack proves that the producer extended after it."""
    number: int = 0
    """The producer's, from its Welcome."""
    tries: int = 0
    """Copies sent since the last answer."""
    places: dict[Endpoint, Place] = field(default_factory=dict)
    """While it is not open: where it may be found."""
    fetching: bool = False
    extension_s: float = 0.0
    interval_s: float = 0.0
    held_until: float = float("-inf")
    wanted_at: float = float("-inf")
    """When somebody here was last seen to want a lease of it."""

    @property
    def idle(self) -> bool:
        return not self.leases and not self.pending and self.window is None

    def happen(self, event: ProducerEvent) -> None:
        """The session goes where the table says."""
        self.state = after(PRODUCER, self.state, event)

    def snapshot(self) -> ProducerView:
        """What is known of it now."""
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
        """What is known of this place; one that is new is due at once."""
        return self.places.setdefault(endpoint, Place(now))

    def next_window(self, seq: int) -> Window:
        """The next changes to be sent, as many as fit into one message."""
        changes = [self.pending.popitem(last=False) for _ in range(min(len(self.pending), TOKENS_PER_MESSAGE))]
        claims = [token for token, claimed in changes if claimed]
        return Window(seq, claims, [token for token, claimed in changes if not claimed])

    def restate(self) -> None:
        """After a Hello the producer wants to hear every claim again. Drops that it may not have heard are kept."""
        drops = [token for token, claimed in self.pending.items() if not claimed]
        if self.window is not None:
            drops += self.window.drops
        self.window = None
        for wanted in self.leases.values():
            wanted.acknowledged = False
        self.pending = OrderedDict.fromkeys(drops, False) | OrderedDict.fromkeys(self.leases, True)

    def look_again(self, now: float, timing: Timing) -> float:
        """When to look for it next: at once where it was found last, then ever more slowly in each place."""
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
        """Where to look next: whatever has been due for longest.

        Requests may name several places for one producer, and clients may have made them up: none hides another, and
        each has pauses of its own.
        """
        if len(self.places) > MAX_PLACES:
            named = {tracked.endpoint for tracked in self.leases.values()} | {self.endpoint}
            self.places = {endpoint: place for endpoint, place in self.places.items() if endpoint in named}
        return min(self.places, key=lambda endpoint: (self.places[endpoint].due, self.places[endpoint].failures))
