"""Counters over time: rates, and totals that an engine's restart does not take back."""

from collections import deque

WINDOW_S = 15.0
"""The time over which a rate is taken."""


class Tally:
    """A counter of an engine, reading by reading. One that falls has begun anew with the engine, at 0."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._last: tuple[float, float] | None = None
        self._rises: deque[tuple[float, float, float]] = deque()
        self.total = 0.0
        """The sum of what it has counted, over restarts."""
        self.rose_at: float | None = None
        """The time of the last reading at which it was higher than before; None if it has not risen since the first."""

    def read(self, now: float, value: float) -> bool:
        """Takes a reading. Returns True where the counter had begun anew."""
        if self._last is None:
            self._last, self.total = (now, value), value
            return False
        then, before = self._last
        anew = value < before
        rise = value if anew else value - before
        self.total += rise
        self._rises.append((then, now, rise))
        while self._rises and self._rises[0][1] <= now - self._window_s:
            self._rises.popleft()
        if rise:
            self.rose_at = now
        self._last = now, value
        return anew

    def per_second(self) -> float | None:
        """Returns the rate; None before there are two readings."""
        if not self._rises:
            return None
        took_s = self._rises[-1][1] - self._rises[0][0]
        return sum(rise for _, _, rise in self._rises) / took_s if took_s > 0 else None
