"""What is to happen when: one heap for a whole run, and an event only where something changes."""

import heapq
from collections.abc import Callable
from typing import Any

Happening = Callable[[Any], None]


class Agenda:
    """Calls in order of time; those of the same time in the order in which they were put here."""

    __slots__ = ("_chances", "_count", "_heap", "events", "now")

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the start."""
        self.events = 0
        """Calls that have begun."""
        self._chances = 0
        """Of what is here, that which nobody waits for."""
        self._count = 0
        self._heap: list[tuple[float, int, Happening, Any]] = []

    def at(self, time: float, happen: Happening, subject: Any = None) -> None:
        """Call `happen(subject)` at `time`, or at once when that is over. Plain arguments: a closure costs more."""
        self._count += 1
        heapq.heappush(self._heap, (time if time > self.now else self.now, self._count, happen, subject))

    def perhaps(self, time: float, happen: Happening, subject: Any) -> None:
        """The same, if the run goes on for so long: nothing is kept going by it."""
        self._chances += 1
        self.at(time, self._happen, (happen, subject))

    def _happen(self, chance: tuple[Happening, Any]) -> None:
        self._chances -= 1
        chance[0](chance[1])

    def run(self) -> None:
        """Until nothing is left to happen, chances apart."""
        heap, pop = self._heap, heapq.heappop
        while len(heap) > self._chances:
            self.now, _, happen, subject = pop(heap)
            self.events += 1
            happen(subject)

    def run_until(self, end: float, done: Callable[[], bool]) -> None:
        """Until `end`, which is then the time, or until `done`, which is asked after each call."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= end:
            self.now, _, happen, subject = pop(heap)
            self.events += 1
            happen(subject)
            if done():
                return
        self.now = max(self.now, end)
