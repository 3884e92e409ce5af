"""Counts of values in fixed buckets, and the way in which they travel.

What travels is what was added to each bucket, its count and its sum: so a report is as large as the buckets are many,
however many values there were. Plain dicts and lists, since it is serialized on the way.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

Cell = tuple[int, float]
"""A bucket: the number of its values, and their sum."""
Added = dict[str, list[float]]
"""The count and the sum added to each bucket, by the bucket's number: text, as the keys of JSON are."""
MOST_TAKEN = 1000
"""The most values of a bucket in one report. An idle engine makes none for hours, and an agent takes 100 turns in a
second: the API server, which observes each value, would stand still for seconds when a request comes at last."""


class Histogram:
    """The values that one thread has observed. Another thread may read them, and one may take what was added."""

    __slots__ = ("_cells", "_taken", "bounds")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds`: the upper bounds of the buckets, ascending; one more bucket takes what is above all."""
        self.bounds = bounds
        self._cells: list[Cell] = [(0, 0.0)] * (len(bounds) + 1)
        self._taken = self._cells.copy()

    def observe(self, value: float) -> None:
        """Counts a value: a bound belongs to the bucket below it, as in Prometheus."""
        bucket = bisect_left(self.bounds, value)
        count, total = self._cells[bucket]
        # One assignment, which other threads see wholly or not at all: a count never lacks its sum.
        self._cells[bucket] = (count + 1, total + value)

    def cells(self) -> list[Cell]:
        """Returns all buckets since the start.

        Any thread may ask: CPython copies a list without letting another thread run.
        """
        return self._cells.copy()

    def take(self) -> Added:
        """Returns what was added since the last call; one thread alone may call it.

        Of each bucket it is at most `MOST_TAKEN` values, and the next calls return the others: who takes them observes
        each one.
        """
        added: Added = {}
        for i, (now, old) in enumerate(zip(self.cells(), self._taken, strict=True)):
            if count := now[0] - old[0]:
                total, taken = now[1] - old[1], min(count, MOST_TAKEN)
                part = total if taken == count else total * taken / count
                self._taken[i] = (old[0] + taken, old[1] + part)
                added[str(i)] = [taken, part]
        return added

    def add(self, added: Mapping[str, Sequence[float]]) -> None:
        """Counts what was added elsewhere, to buckets with the same bounds."""
        for bucket, (more, amount) in added.items():
            count, total = self._cells[int(bucket)]
            self._cells[int(bucket)] = (count + int(more), total + amount)


def observe_into(added: Added, bounds: Sequence[float], value: float) -> None:
    """Counts a value in what is about to travel."""
    cell = added.setdefault(str(bisect_left(bounds, value)), [0, 0.0])
    cell[0] += 1
    cell[1] += value


def add_up(into: dict[str, Added], more: Mapping[str, Added]) -> None:
    """Adds what was added to some histograms, by name, to what was added before."""
    for name, added in more.items():
        known = into.setdefault(name, {})
        for bucket, (count, total) in added.items():
            cell = known.setdefault(bucket, [0, 0.0])
            cell[0] += count
            cell[1] += total


def values(bounds: Sequence[float], added: Mapping[str, Sequence[float]]) -> Iterator[tuple[float, int]]:
    """Yields a value for each bucket, and how often it is to be observed: elsewhere that gives the same count, buckets
    and, but for the last digits, sum."""
    for bucket, (count, total) in added.items():
        index = int(bucket)
        mean = total / count
        # By rounding, a mean of values on a bound can come to lie in the next bucket.
        if index < len(bounds):
            mean = min(mean, bounds[index])
        if index:
            mean = max(mean, math.nextafter(bounds[index - 1], math.inf))
        yield mean, int(count)
