"""The protocol's constants of time and size that are not settings: every bound and every rate has its name here.

They are handed to lessor and lessee, so that a simulation with a shorter scale of time, or a test that reaches a bound,
can give its own values and still run the product's code.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """The durations (in seconds) and bounds of the protocol that no operator sets."""

    lag_tolerance_s: float = 0.1
    """The longest gap between two calls of the lessor that is no pause: what exceeds it is added to all deadlines
    (R26)."""
    session_idle_s: float = 60.0
    """The time for which a producer keeps a session without claims open for its consumer's next request."""
    max_sessions: int = 16384
    """The most consumers of one producer at once: more than any fleet has, and a bound on what strangers can make it
    remember (R12)."""
    retry_s: float = 0.25
    """The time without an answer after which a consumer repeats its message; a round trip takes well under 0.1 s."""
    tries: int = 4
    """The number of unanswered copies after which a consumer opens its session anew."""
    backoff_max_s: float = 2.0
    """The longest pause between two attempts to reach a producer that does not answer."""
    idle_s: float = 30.0
    """The time for which a consumer keeps a session without leases open for the next request."""
    max_drops: int = 1 << 14
    """The most drops that a consumer keeps for a producer that does not acknowledge them. The oldest are given up: the
    producer's own clock ends their leases."""
    sibling_linger_s: float = 0.5
    """The time for which a lease outlives its last known holder when that holder has siblings (n > 1), which may still
    be on their way from the API server (R24)."""
    paused_after_s: float = 0.5
    """The time between two steps after which a consumer's engine counts as paused: with leased requests it makes step
    after step. If it was only slow, nothing is lost: a renewal follows its next step, well within the extension."""

    @property
    def max_unanswered(self) -> int:
        """The most copies whose answers are waited for: a sound producer leaves fewer open. The oldest are given up."""
        return 3 * self.tries


TIMING = Timing()
"""The values that every engine runs with."""
