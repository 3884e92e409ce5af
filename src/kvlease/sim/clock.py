"""Time in a run: what is to happen when, and the clocks of engines, which do not agree with it."""

import heapq
from collections.abc import Callable

from kvlease.sim.safety import Violation


class Agenda:
    """What is to happen, in order of time; things of the same time in the order in which they were put here."""

    def __init__(self, most_events: int) -> None:
        """A run that comes to more events than `most_events` does not come to rest (L3)."""
        self.now = 0.0
        self.events = 0
        self._most_events = most_events
        self._count = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, happen: Callable[[], None]) -> None:
        """Let it happen at `time`, or now if that is over."""
        self._count += 1
        heapq.heappush(self._heap, (max(time, self.now), self._count, happen))

    def after(self, delay_s: float, happen: Callable[[], None]) -> None:
        self.at(self.now + delay_s, happen)

    def run_until(self, end: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen up to `end`, or until `done` (asked after each thing)."""
        while self._heap and self._heap[0][0] <= end:
            self.now, _, happen = heapq.heappop(self._heap)
            self.events += 1
            if self.events > self._most_events:
                raise Violation("L3", f"{self.events} events, and no rest")
            happen()
            if done():
                return
        self.now = max(self.now, end)


class DriftingClock:
    """A monotonic clock of one engine: it began anywhere, and may run fast or slow for a while."""

    def __init__(self, agenda: Agenda, began_at: float, rate: float = 1.0) -> None:
        self._agenda = agenda
        self._local = began_at
        self._true = agenda.now
        self._rate = rate

    def __call__(self) -> float:
        """Its seconds."""
        return self._local + (self._agenda.now - self._true) * self._rate

    def run_at(self, rate: float) -> None:
        """From now on; 1 is the true rate."""
        self._local, self._true, self._rate = self(), self._agenda.now, rate
