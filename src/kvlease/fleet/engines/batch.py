"""Continuous batching, simulated without its single steps.

Every running request gets one token a step, so all of them share one clock that counts tokens: in a time dt each has
got dt / step(n) of them, n being the requests that run. A request that joins when the clock shows v and wants m tokens
is done when it shows v + m, whatever other requests join and leave. So an event is needed only where n changes. This is
processor sharing in virtual time, as in the fair queueing of networks (Demers, Keshav and Shenker 1989).
"""

import heapq
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Batch(Generic[T]):
    """Requests that run on one engine. `now` never falls from call to call."""

    __slots__ = ("_count", "_fixed_s", "_heap", "_per_request_s", "_since", "_tokens", "size", "step_s")

    def __init__(self, fixed_s: float, per_request_s: float) -> None:
        self._fixed_s = fixed_s
        self._per_request_s = per_request_s
        self.size = 0
        """The number of requests that run."""
        self.step_s = fixed_s
        """The seconds that a step takes now."""
        self._tokens = 0.0
        self._since = 0.0
        """The time at which the token clock showed `_tokens`; it is in the future while the engine stands still."""
        self._count = count()
        self._heap: list[tuple[float, int, T]] = []

    def join(self, member: T, tokens: int, now: float) -> float:
        """Lets `member` run for `tokens`. Returns the time of its first one, if nothing changes."""
        self._advance(now)
        heapq.heappush(self._heap, (self._tokens + tokens, next(self._count), member))
        self._resize(self.size + 1)
        return self._since + self.step_s

    def leave(self, now: float) -> None:
        """Takes out a member before its end. `take_finished` still returns it when it would have ended."""
        self._advance(now)
        self._resize(self.size - 1)

    def stand_still(self, until: float, now: float) -> None:
        """Stops all tokens until a time."""
        self._advance(now)
        self._since = max(self._since, until)

    def busy_until(self, now: float) -> float:
        """Returns the time at which tokens go on, or now."""
        return max(self._since, now)

    def next_finish(self) -> float | None:
        """Returns the time at which the next member ends, if nothing changes; None when there is none."""
        return self._since + (self._heap[0][0] - self._tokens) * self.step_s if self._heap else None

    def take_finished(self, now: float) -> list[T]:
        """Returns the members that have ended, and those that left and would have by now. Only `leave` changes
        `size`."""
        self._advance(now)
        finished: list[T] = []
        # Finishing times and the token clock may differ by their rounding.
        while self._heap and self._heap[0][0] <= self._tokens + 1e-6:
            finished.append(heapq.heappop(self._heap)[2])
        return finished

    def _advance(self, now: float) -> None:
        if now > self._since:
            self._tokens += (now - self._since) / self.step_s
            self._since = now

    def _resize(self, size: int) -> None:
        self.size = size
        self.step_s = self._fixed_s + self._per_request_s * size
