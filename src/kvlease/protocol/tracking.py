"""What a consumer keeps in mind: its leases, and its session with each producer."""

import enum
from dataclasses import dataclass, field

Endpoint = tuple[str, int]


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
class Session:
    """This consumer's relation to one producer incarnation."""

    producer: int
    endpoint: Endpoint
    """The side channel where it was last found, or is looked for."""
    phase: Phase = Phase.SEEKING
    leases: dict[int, Tracked] = field(default_factory=dict)
    pending: dict[int, bool] = field(default_factory=dict)
    """Changes not yet in a window: token to True for a claim, False for a drop. The last word on a token wins."""
    window: Window | None = None
    sent_at: dict[int, float] = field(default_factory=dict)
    """Send time of each unanswered seq: an Ack proves that the producer extended after it."""
    number: int = 0
    """The producer's, from its Welcome."""
    tries: int = 0
    """Copies sent since the last answer."""
    failures: int = 0
    """Attempts to open it since the last Welcome."""
    fetching: bool = False
    looked: bool = False
    """A card was asked for since the last Welcome."""
    extension_s: float = 0.0
    interval_s: float = 0.0
    held_until: float = float("-inf")
    wanted_at: float = float("-inf")
    """When somebody here was last seen to want a lease of it."""

    @property
    def idle(self) -> bool:
        return not self.leases and not self.pending and self.window is None

    def next_place(self) -> Endpoint:
        """Where to look: first where it was found last, then in turn wherever the requests say that it is.

        Requests may name several places for one producer, as clients write them: no wrong one may hide the right one.
        """
        named = list(dict.fromkeys(tracked.endpoint for tracked in self.leases.values())) or [self.endpoint]
        if not self.looked:
            return self.endpoint
        after = named.index(self.endpoint) + 1 if self.endpoint in named else 0
        return named[after % len(named)]
