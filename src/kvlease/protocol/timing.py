"""The protocol's own constants of time and size, which are no settings: every bound and every rate has its name here.

They are handed to lessor and lessee, so that a world with another scale of time (a simulation of a few bare seconds,
a test that reaches a bound) says so, instead of changing the code that it is there to prove.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the protocol waits and how much it keeps, wherever no operator decides. Durations are in seconds."""

    lag_tolerance_s: float = 0.1
    """A gap between two calls of the lessor that is longer is the lessor's own fault, and is given back to its
    consumers (R26)."""
    session_idle_s: float = 60.0
    """How long a producer keeps a session without claims, so that the next request of its consumer finds it open."""
    max_sessions: int = 16384
    """Consumers of one producer at once: more than any fleet has, and a bound for what strangers can make it remember
    (R12)."""
    retry_s: float = 0.25
    """After this long without an answer a consumer sends its message again; a round trip takes well under a tenth."""
    tries: int = 4
    """Unanswered copies after which a consumer opens its session anew."""
    backoff_max_s: float = 2.0
    """The longest pause between two attempts to reach a producer that does not answer."""
    idle_s: float = 30.0
    """How long a consumer keeps a session without leases open for the next request."""
    max_drops: int = 1 << 14
    """Drops that a consumer keeps for a producer that does not hear them. The oldest are given up: the producer's own
    clock ends their leases."""
    sibling_linger_s: float = 0.5
    """How long a lease outlives its last known holder when that holder has siblings (n > 1), which may still be on
    their way from the API server (R24)."""
    paused_after_s: float = 0.5
    """A consumer's engine that is between two steps for longer is paused: with leased requests it makes one step upon
    the other. Were it a hiccup, nothing is lost: its next step is followed by a renewal, well within the extension."""

    @property
    def max_unanswered(self) -> int:
        """Copies whose answers are waited for: an honest producer leaves fewer unanswered. The oldest are given up."""
        return 3 * self.tries


TIMING = Timing()
"""Of every engine."""
