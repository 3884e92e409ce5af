"""Admission: how many requests are under way at once, how many wait for that, and how long. Pure; first come, first
served.

Without a bound a router that gets more than its engines can do holds ever more requests, each of which waits longer
than its client does.
"""

import enum
import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kvlease.errors import ConfigError

K = TypeVar("K", bound=Hashable)
SMOOTHING = 0.1
"""The weight of the newest request in the average time that one takes."""
RETRY_AFTER_S = (1.0, 60.0)
"""The least and the most that a client is told to stay away."""


class Entry(enum.StrEnum):
    """The answer to a request that arrives."""

    ADMITTED = "admitted"
    QUEUED = "queued"
    """It waits; `left` or `overdue` will name it."""
    FULL = "full"
    """The client gets a 429, with `retry_after_s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """The bounds of what a router takes. Raises `ConfigError` for impossible values."""

    in_flight: int = 1024
    """The most requests that are under way at once."""
    queue: int = 1024
    """The most requests that wait for that; 0: none waits."""
    wait_s: float = 30.0
    """The most that a request waits."""

    def __post_init__(self) -> None:
        if self.in_flight < 1 or self.queue < 0:
            raise ConfigError(
                f"in_flight = {self.in_flight}, queue = {self.queue}: allowed are whole numbers, at least 1 and 0, "
                "e.g. 1024 and 1024"
            )
        if not 0 < self.wait_s < math.inf:
            raise ConfigError(f"wait_s = {self.wait_s}: allowed is a finite number of seconds above 0, e.g. 30")


class AdmissionQueue(Generic[K]):
    """The requests that are under way, and those that wait. A key names each; its owner makes it."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._since: dict[K, float] = {}
        self._waiting: OrderedDict[K, float] = OrderedDict()
        self._takes_s: float | None = None

    @property
    def in_flight(self) -> int:
        """The number of requests that are under way."""
        return len(self._since)

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return len(self._waiting)

    def arrive(self, now: float, key: K) -> Entry:
        """Takes a request. Raises ValueError for a key that is here already."""
        if key in self._since or key in self._waiting:
            raise ValueError(f"the request {key!r} is here already")
        if len(self._since) < self._limits.in_flight:
            # Nobody waits then: whoever did was admitted when the place became free.
            self._since[key] = now
            return Entry.ADMITTED
        if len(self._waiting) < self._limits.queue:
            self._waiting[key] = now + self._limits.wait_s
            return Entry.QUEUED
        return Entry.FULL

    def left(self, now: float, key: K) -> tuple[K, ...]:
        """Notes that a request has ended, or that its client has left the queue; does nothing for one that is not here.
        Returns the requests that waited and are admitted now."""
        self._waiting.pop(key, None)
        since = self._since.pop(key, None)
        if since is not None:
            took_s = max(0.0, now - since)
            average_s = self._takes_s
            self._takes_s = took_s if average_s is None else average_s + SMOOTHING * (took_s - average_s)
        return self._admit(now)

    def overdue(self, now: float) -> tuple[K, ...]:
        """Returns the requests that have waited too long, and forgets them: their clients get a 429."""
        gone: list[K] = []
        while self._waiting:
            key, deadline = next(iter(self._waiting.items()))
            if deadline > now:
                break
            del self._waiting[key]
            gone.append(key)
        return tuple(gone)

    def next_due(self) -> float | None:
        """Returns the time at which `overdue` has something to say next; None for never."""
        return next(iter(self._waiting.values()), None)

    def retry_after_s(self) -> float:
        """Returns after which time a client may try again: as long as those who wait now will take."""
        takes_s = self._takes_s or 0.0
        expected_s = takes_s * (len(self._waiting) + 1) / self._limits.in_flight
        least_s, most_s = RETRY_AFTER_S
        return min(most_s, max(least_s, float(math.ceil(expected_s))))

    def _admit(self, now: float) -> tuple[K, ...]:
        admitted: list[K] = []
        while self._waiting and len(self._since) < self._limits.in_flight:
            key, _ = self._waiting.popitem(last=False)
            self._since[key] = now
            admitted.append(key)
        return tuple(admitted)
