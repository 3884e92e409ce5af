"""The events of a simulated run: one heap for all of them, and an event only where something changes."""

import heapq
from collections.abc import Callable
from typing import Any

Happening = Callable[[Any], None]


class Agenda:
    """Calls in order of time; those of one time are in the order in which they were planned."""

    __slots__ = ("_chances", "_count", "_heap", "events", "now")

    def __init__(self) -> None:
        self.now = 0.0
        """The simulated seconds since the start."""
        self.events = 0
        """The number of calls that have begun."""
        self._chances = 0
        """The number of planned calls that do not keep a run going."""
        self._count = 0
        self._heap: list[tuple[float, int, Happening, Any]] = []

    def at(self, time: float, happen: Happening, subject: Any = None) -> None:
        """Plans `happen(subject)` at `time`, or at once if that is over. (A closure would cost more than `subject`.)"""
        self._count += 1
        heapq.heappush(self._heap, (time if time > self.now else self.now, self._count, happen, subject))

    def perhaps(self, time: float, happen: Happening, subject: Any) -> None:
        """Plans `happen(subject)` at `time`, if the run lasts that long: this call does not keep it going."""
        self._chances += 1
        self.at(time, self._happen, (happen, subject))

    def _happen(self, chance: tuple[Happening, Any]) -> None:
        self._chances -= 1
        chance[0](chance[1])

    def run(self) -> None:
        """Makes the calls until only those planned by `perhaps` are left."""
        heap, pop = self._heap, heapq.heappop
        while len(heap) > self._chances:
            self.now, _, happen, subject = pop(heap)
            self.events += 1
            happen(subject)

    def run_until(self, end: float, done: Callable[[], bool]) -> None:
        """Makes the calls until `end`, which is then the time, or until `done()`, which is asked after each call."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= end:
            self.now, _, happen, subject = pop(heap)
            self.events += 1
            happen(subject)
            if done():
                return
        self.now = max(self.now, end)
