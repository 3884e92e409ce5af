"""The form in which a metric is described: its name, its label, what it means, and when to worry."""

import enum
from collections.abc import Mapping
from typing import NamedTuple

PREFIX = "kvlease:"
"""The beginning of every name on a page."""


class Kind(enum.StrEnum):
    """The kinds of Prometheus."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Counted(enum.StrEnum):
    """The part of an engine that counts a thing: with tensor parallelism an engine has several workers."""

    ENGINE = "once an engine"
    """Its scheduler counts, whatever the number of workers. One request is one."""
    WORKER = "once a worker"
    """Each worker of tensor parallelism counts its own part, and the page has their sum: one request is as many as
    there are workers."""


class Ranks(enum.StrEnum):
    """The way to make one figure of those of several data-parallel ranks, which are engines of their own."""

    SUM = "sum"
    """Each rank has its own: together they have the sum."""
    MIN = "min"
    """The sum means nothing; the lowest is the one to look at."""


class Value(NamedTuple):
    """One value of a metric's label."""

    meaning: str
    good: str = ""
    """Its look in good times."""
    worry: str = ""
    """The look that is to worry about, and its likely reason."""
    counted: Counted | None = None
    """The part of an engine that counts it, if not the one of the metric's other values."""


class Metric(NamedTuple):
    """One metric. Its label, if it has one, takes the values that are named here, and no others."""

    name: str
    """Its name without prefix and suffix."""
    kind: Kind
    meaning: str
    good: str = ""
    """Its look in good times."""
    worry: str = ""
    """The look that is to worry about, and its likely reason."""
    label: str = ""
    values: Mapping[str, Value] = {}
    counted: Counted = Counted.ENGINE
    ranks: Ranks = Ranks.SUM
    buckets: tuple[float, ...] = ()
    """The upper bounds of a histogram's buckets, in seconds, but for the last one, which has none."""
    like: str = ""
    """The metric of vLLM's, or the one that is proposed there, that has the like."""

    @property
    def shown(self) -> str:
        """The name on a page, of a histogram the one that its series begin with."""
        return f"{PREFIX}{self.name}{'_total' * (self.kind is Kind.COUNTER)}"


def steps(first: float, last: float, mantissas: tuple[float, ...] = (1, 2, 5)) -> tuple[float, ...]:
    """Returns the numbers from `first` to `last` that begin with these digits in every decade."""
    found = (float(f"{mantissa}e{exponent}") for exponent in range(-7, 8) for mantissa in mantissas)
    return tuple(number for number in found if first <= number <= last)


FINE = (1, 1.5, 2, 3, 5, 7)
"""The steps in a decade of what decides on a term."""
