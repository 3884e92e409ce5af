"""Continuous batching without its steps.

Every running request gets one token a step, so all of them share one clock that counts tokens: in a time dt each has
got dt / step(n) of them, n being the requests that run. A request that joins when the clock stands at v and wants m
tokens is through when it stands at v + m, whoever else comes and goes. So nothing is to be done but where n changes:
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
        """Requests that run."""
        self.step_s = fixed_s
        """How long a step takes now."""
        self._tokens = 0.0
        self._since = 0.0
        """When the token clock stood at `_tokens`; in the future while the engine stands still."""
        self._count = count()
        self._heap: list[tuple[float, int, T]] = []

    def join(self, member: T, tokens: int, now: float) -> float:
        """Let it run for so many tokens. Returns when it has its first one, if nothing changes."""
        self._advance(now)
        heapq.heappush(self._heap, (self._tokens + tokens, next(self._count), member))
        self._resize(self.size + 1)
        return self._since + self.step_s

    def leave(self, now: float) -> None:
        """One that runs goes before its end. It still comes out of `take_finished`, at the time it would have."""
        self._advance(now)
        self._resize(self.size - 1)

    def stand_still(self, until: float, now: float) -> None:
        """No tokens until then."""
        self._advance(now)
        self._since = max(self._since, until)

    def busy_until(self, now: float) -> float:
        """When it goes on, or now."""
        return max(self._since, now)

    def next_finish(self) -> float | None:
        """When the next one is through, if nothing changes."""
        return self._since + (self._heap[0][0] - self._tokens) * self.step_s if self._heap else None

    def take_finished(self, now: float) -> list[T]:
        """Those that are through, and those that left and would be by now. `size` is left to `leave`."""
        self._advance(now)
        finished: list[T] = []
        # Finishing times and the token clock are each a rounding away from each other.
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
