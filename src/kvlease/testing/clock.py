"""Time that passes only in a test."""

from dataclasses import dataclass


@dataclass(slots=True)
class ManualClock:
    """A monotonic clock whose reading is `now`, in seconds, until somebody sets another."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now
