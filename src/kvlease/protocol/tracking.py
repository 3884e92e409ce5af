"""What a consumer keeps in mind: its leases, and its session with each producer."""

import enum
from collections import OrderedDict
from dataclasses import dataclass, field

Endpoint = tuple[str, int]

MAX_PLACES = 16
"""Places kept for a session beside those that a request names."""


class Standing(enum.Enum):
    """What a consumer knows of a lease."""

    TRACKED = "tracked"
    """Wanted; the producer's word that it is held is missing, or too old."""
    HELD = "held"
    """The producer holds it: it has acknowledged the claim, and a renewal within the last extension."""
    LOST = "lost"
    """The producer does not hold it. It must not be read."""


class Phase(enum.Enum):
    """Of a session, on the consumer's side."""

    SEEKING = "seeking"
    """Fetching the lease card from the producer's side channel."""
    GREETING = "greeting"
    """Hello sent, waiting for Welcome."""
    OPEN = "open"


@dataclass(slots=True)
class Tracked:
    """A lease that is wanted here and was not reported lost."""

    endpoint: Endpoint
    holders: set[str] = field(default_factory=set)
    """The local requests that want it: siblings (n > 1) share one."""
    acknowledged: bool = False


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
class Session:
    """This consumer's relation to one producer incarnation."""

    producer: int
    endpoint: Endpoint
    """The side channel where it was last found, or is looked for."""
    phase: Phase = Phase.SEEKING
    leases: dict[int, Tracked] = field(default_factory=dict)
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

    def place(self, endpoint: Endpoint, now: float) -> Place:
        """What is known of this place; one that is new is due at once."""
        return self.places.setdefault(endpoint, Place(now))

    def next_place(self) -> Endpoint:
        """Where to look next: whatever has been due for longest.

        Requests may name several places for one producer, and clients may have made them up: none hides another, and
        each has pauses of its own.
        """
        if len(self.places) > MAX_PLACES:
            named = {tracked.endpoint for tracked in self.leases.values()} | {self.endpoint}
            self.places = {endpoint: place for endpoint, place in self.places.items() if endpoint in named}
        return min(self.places, key=lambda endpoint: (self.places[endpoint].due, self.places[endpoint].failures))
