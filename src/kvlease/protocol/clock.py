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
"""The number of entries without a bucket that are too few to be worth removing."""


class ForgivingClock:
    """The lessor's own time, which stops while the lessor does (R26).

    An agent that was not running cannot tell a consumer that fell silent from one whose messages are still unread. All
    deadlines are kept in this time, so a pause of the agent moves every one of them at the cost of one addition. A
    member that suspects itself first is Lifeguard's rule (Dadgar et al. 2018).
    """

    def __init__(self, tolerance_s: float, now: float) -> None:
        self._tolerance_s = tolerance_s
        self._last = now
        self.forgiven_s = 0.0

    def read(self, now: float) -> float:
        """Returns the lessor's own time at `now` (monotonic, seconds). Every method of the lessor reads it first."""
        gap = now - self._last
        if gap > self._tolerance_s:
            self.forgiven_s += gap - self._tolerance_s
        if gap > 0:
            self._last = now
        return self._last - self.forgiven_s

    @property
    def latest(self) -> float:
        """The lessor's own time at the last reading."""
        return self._last - self.forgiven_s

    def was_awake(self, now: float) -> None:
        """Notes that there was no pause up to `now`, however long ago the last reading was."""
        if now > self._last:
            self._last = now


class ExpiryQueue(Generic[K]):
    """Deadlines by key; setting, moving and removing one costs O(1), in any order.

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
        """Makes `key` due at `deadline`, whatever was set before. A deadline in the past is due at once."""
        self._put(key, max(math.ceil(deadline / self._tick_s), self._next_tick))

    def hasten(self, key: K) -> None:
        """Makes `key` due at the next call of `take_due`.

        (A deadline of now, rounded up, would be due at the next tick; set again before each call, it would never be
        due.)
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
        """Forgets `key`; a no-op when it is not here."""
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
        """The number of ticks in memory, those whose bucket is gone included: a bounded multiple of the buckets."""
        return len(self._ticks)

    def snapshot(self) -> tuple[tuple[int, tuple[K, ...]], ...]:
        """Returns every bucket in the order of time: its tick, and its keys in the order of their taking."""
        return tuple((tick, tuple(bucket)) for tick, bucket in sorted(self._buckets.items()))

    def next_due(self) -> float | None:
        """Returns the time at which the first deadline is due, rounded up to its tick; None when there is none.

        The time is as exact as floats are: at that very time nothing may be due yet, but a microsecond later it is.
        """
        ticks, buckets = self._ticks, self._buckets
        while ticks:
            if ticks[0] in buckets:
                return ticks[0] * self._tick_s
            heapq.heappop(ticks)
        return None

    def take_due(self, now: float) -> list[K]:
        """Removes and returns the keys whose deadline is not after `now`, earliest tick first."""
        last, ticks, due = math.floor(now / self._tick_s), self._ticks, []
        while ticks and ticks[0] <= last:
            for key in self._buckets.pop(heapq.heappop(ticks), ()):
                del self._tick_of[key]
                due.append(key)
        # The tick of `now` stays open: what is set for it from here on is due at the next call.
        if last > self._next_tick:
            self._next_tick = last
        return due

    def _note(self, tick: int) -> None:
        """Notes the tick of a new bucket. Ticks without a bucket are removed before they outnumber the others (R12)."""
        if len(self._ticks) > 2 * len(self._buckets) + _SPARE_TICKS:
            self._ticks = list(self._buckets)
            heapq.heapify(self._ticks)
        else:
            heapq.heappush(self._ticks, tick)
