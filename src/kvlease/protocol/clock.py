"""Time as the protocol sees it: a clock that forgives its owner's own pauses, and deadlines kept by the tick."""

import heapq
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
Buckets = tuple[tuple[int, tuple[object, ...]], ...]
"""An expiry queue at a moment: each tick that has a bucket, and the keys in it."""

TICK_S = 0.02
"""Deadlines are rounded up to this; an end is noticed at most this late."""
_SPARE_TICKS = 64
"""Entries of buckets that are gone, which are not worth a sweep."""


class ForgivingClock:
    """The lessor's own time, which stands still while the lessor does (R26).

    Whoever was not looking cannot tell a consumer that fell silent from one whose messages lie unread. All deadlines
    are kept in this time, so a pause of the agent moves every one of them at the cost of one addition. Suspecting
    oneself first is Lifeguard's rule (Dadgar et al. 2018).
    """

    def __init__(self, tolerance_s: float, now: float) -> None:
        self._tolerance_s = tolerance_s
        self._last = now
        self.forgiven_s = 0.0

    def read(self, now: float) -> float:
        """The own time at `now` (monotonic, seconds). Every entry into the lessor reads it first."""
        gap = now - self._last
        if gap > self._tolerance_s:
            self.forgiven_s += gap - self._tolerance_s
        self._last = max(self._last, now)
        return self._last - self.forgiven_s

    def was_awake(self, now: float) -> None:
        """There was no pause up to `now`, whatever the gap since the last reading."""
        self._last = max(self._last, now)


class ExpiryQueue(Generic[K]):
    """Deadlines by key; setting, moving and removing one costs O(1), in whatever order they come.

    Deadlines are rounded up to ticks and kept in one bucket a tick, as in ZooKeeper's ExpiryQueue. So nothing depends
    on deadlines growing with the order of insertion, which renewals and mixed terms break (vllm 58222, 50789). A heap
    of the ticks, not of the keys, tells at once that nothing is due, which is the answer nearly every time.
    """

    def __init__(self, now: float, tick_s: float = TICK_S) -> None:
        self._tick_s = tick_s
        self._tick_of: dict[K, int] = {}
        self._buckets: dict[int, dict[K, None]] = {}
        self._ticks: list[int] = []
        """A heap of every bucket's tick, and of some whose bucket is gone."""
        self._next_tick = math.floor(now / tick_s)

    def __len__(self) -> int:
        return len(self._tick_of)

    def __contains__(self, key: K) -> bool:
        return key in self._tick_of

    def set(self, key: K, deadline: float) -> None:
        """Let `key` be due at `deadline`, whatever was set before. A deadline in the past is due at once."""
        self._put(key, max(math.ceil(deadline / self._tick_s), self._next_tick))

    def hasten(self, key: K) -> None:
        """Let `key` be due at the next call of `take_due`.

        (Set to now, rounded up, it would be due at the next tick; and set again before each call, never.)
        """
        self._put(key, self._next_tick)

    def _put(self, key: K, tick: int) -> None:
        if self._tick_of.get(key) == tick:
            return
        self.discard(key)
        self._tick_of[key] = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = {key: None}
            self._note(tick)
        else:
            bucket[key] = None

    def discard(self, key: K) -> None:
        """Forget `key`; a no-op when it is not here."""
        tick = self._tick_of.pop(key, None)
        if tick is None:
            return
        bucket = self._buckets[tick]
        del bucket[key]
        if not bucket:
            del self._buckets[tick]

    @property
    def next_tick(self) -> int:
        """The first tick that a deadline can still get."""
        return self._next_tick

    @property
    def remembered_ticks(self) -> int:
        """How many ticks are kept in mind, those whose bucket is gone included: a bounded multiple of the buckets."""
        return len(self._ticks)

    def snapshot(self) -> tuple[tuple[int, tuple[K, ...]], ...]:
        """Every bucket in the order of time: its tick, and its keys in the order in which they will be taken."""
        return tuple((tick, tuple(bucket)) for tick, bucket in sorted(self._buckets.items()))

    def next_due(self) -> float | None:
        """When the first deadline is due, rounded up to its tick; None when there is none.

        As exact as floats are: nothing may be due at the very time that this says, but a microsecond later it is.
        """
        while self._ticks and self._ticks[0] not in self._buckets:
            heapq.heappop(self._ticks)
        return self._ticks[0] * self._tick_s if self._ticks else None

    def take_due(self, now: float) -> list[K]:
        """Remove and return the keys whose deadline is not after `now`, earliest tick first."""
        last = math.floor(now / self._tick_s)
        due: list[K] = []
        while self._ticks and self._ticks[0] <= last:
            for key in self._buckets.pop(heapq.heappop(self._ticks), ()):
                del self._tick_of[key]
                due.append(key)
        # The tick of `now` stays open: what is set for it from here on is due at the next call.
        self._next_tick = max(self._next_tick, last)
        return due

    def _note(self, tick: int) -> None:
        """A new bucket. What stays of buckets that are gone is swept out before it outweighs the rest (R12)."""
        if len(self._ticks) > 2 * len(self._buckets) + _SPARE_TICKS:
            self._ticks = list(self._buckets)
            heapq.heapify(self._ticks)
        else:
            heapq.heappush(self._ticks, tick)
