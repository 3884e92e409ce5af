"""The findings of a benchmark: figures beside stock's, held against a goal."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Self


class Effort(Enum):
    """The amount that a benchmark does."""

    SHORT = "short"
    """Enough to see that it runs, and the order of magnitude: seconds to two minutes each. For tests."""
    FULL = "full"
    """The amount that docs/contribute/performance.md shows."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of measured values, in the holder's unit: median, quartiles, extremes, and how many there were."""

    median: float
    low: float
    """The lower quartile."""
    high: float
    """The upper quartile."""
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Returns the spread of these values. Raises `ValueError` when there are none."""
        if not values:
            raise ValueError("no values were measured: there is no spread of nothing")
        if len(values) == 1:
            return cls(values[0], values[0], values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One line of the table. `ratio` is ours divided by stock's, of values measured side by side, pair by pair."""

    what: str
    unit: str
    ours: Spread | None
    stock: Spread | None = None
    ratio: Spread | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal, what was found, and whether it was met."""

    text: str
    found: str
    """The figure that decides, in words: "3.1 µs at 10,000 leases"."""
    met: bool | None
    """None: it was not measured here; `found` says why."""


@dataclass(frozen=True, slots=True)
class Curves:
    """A plot: one curve per series, points (x, spread of y)."""

    x: str
    y: str
    """The axes' labels, with units."""
    series: Mapping[str, Sequence[tuple[float, Spread]]]
    """The points of each curve, by label: "kvlease", "stock", or what else is compared."""
    log_x: bool = False
    log_y: bool = False
    limit: float | None = None
    """The goal as a horizontal line."""


@dataclass(frozen=True, slots=True)
class Result:
    """The findings of one benchmark."""

    name: str
    """The name on the command line, such as `renewal`."""
    title: str
    rows: Sequence[FigureRow]
    goals: Sequence[Goal]
    curves: Sequence[Curves] = ()
    sides: tuple[str, str] = ("kvlease", "stock")
    """The names of what `FigureRow.ours` and `FigureRow.stock` hold, where they hold something else."""
    notes: Sequence[str] = field(default=())
    """The notes that a reader needs to believe the figures: what was left out, what limits them."""
