"""The statistics behind advice on a term: what a histogram says about values that are hardly ever seen.

Nothing is promised that the sample does not show: a share is given by its upper bound at 95 % (Clopper and Pearson,
1934), so that 1,000 values none of which was late say "at most one in 334", and not "none".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from kvlease.metrics.scraped import ScrapedHistogram

CONFIDENCE = 0.95
TAIL_SHARE = 0.1
"""The share of values, at most, that a tail is fitted to: those above the rest."""
TAIL_COUNT = 30
"""The least number of values that a tail is fitted to."""
_Z = 1.6448536
"""The standard deviations below which 95 % of a normal distribution lie."""
_MANY = 1000
"""The number of values from which on Wilson's bound, with the correction for whole numbers, is as good as the exact."""
_HALVINGS = 100


def share_at_most(seen: int, of: int) -> float:
    """Returns the upper bound, at 95 %, of a share of which `seen` of `of` were drawn: with none in n it is about 3/n.

    It is Clopper's and Pearson's bound: whatever the share, the bound is below it in one of 20 samples at most. With
    nothing drawn, or nothing but what was sought, it is 1.
    """
    if not 0 <= seen <= of:
        raise ValueError(f"{seen} of {of} cannot be: a sample has no more of anything than it has in all")
    if seen == of:
        return 1.0
    if seen == 0:
        return -math.expm1(math.log1p(-CONFIDENCE) / of)
    if min(seen, of - seen) > _MANY:
        return _wilson(seen, of)
    low, high = seen / of, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if high - low < 1e-9 * low:
            break
        if _up_to(seen, of, middle) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def _wilson(seen: int, of: int) -> float:
    share, square = seen / of, _Z * _Z
    root = _Z * math.sqrt(square + 2 - 1 / of + 4 * share * (of - seen - 1))
    return (2 * seen + square + 1 + root) / (2 * (of + square))


def _up_to(seen: int, of: int, share: float) -> float:
    """The probability that a sample has so few or fewer. `share` is above `seen / of`: terms shrink downwards."""
    log_term = math.lgamma(of + 1) - math.lgamma(seen + 1) - math.lgamma(of - seen + 1)
    log_term += seen * math.log(share) + (of - seen) * math.log1p(-share) if share < 1 else -math.inf
    term = total = math.exp(log_term)
    for count in range(seen, 0, -1):
        term *= count / (of - count + 1) * (1 - share) / share
        total += term
        if term < total * 1e-15:
            break
    return total


@dataclass(frozen=True, slots=True)
class Bounded:
    """The time within which all but a share of values lie."""

    seconds: float
    share: float
    """The upper bound of the share above it, at 95 %."""
    extrapolated: bool
    """True: it lies beyond what was seen, on a tail that was fitted; an estimate, and no bound."""


def within(values: ScrapedHistogram, share: float, beyond: int = 0) -> Bounded | None:
    """Returns the shortest time that at most `share` of values exceed; None where the sample is too small to say.

    `beyond` values are known to be longer than all times in question, and not in the histogram. A time that the sample
    itself shows is the upper bound of a bucket. Otherwise the tail is extrapolated.
    """
    total = round(values.count) + beyond
    for bound, above in _survivors(values, beyond):
        # The bound is never below what was seen, and takes longer to compute.
        if above <= share * total and (most := share_at_most(above, total)) <= share:
            return Bounded(bound, most, extrapolated=False)
    return _extrapolate(values, share, beyond)


def above(values: ScrapedHistogram, seconds: float, beyond: int = 0) -> tuple[int, int]:
    """Returns how many values exceeded `seconds` for sure, and how many may have: a bucket does not tell within."""
    survivors = [(0.0, round(values.count) + beyond), *_survivors(values, beyond), (math.inf, beyond)]
    surely = next(number for bound, number in survivors if bound >= seconds)
    return surely, next(number for bound, number in reversed(survivors) if bound <= seconds)


def _survivors(values: ScrapedHistogram, beyond: int) -> list[tuple[float, int]]:
    """The finite bounds, and how many values are above each."""
    return [
        (bound, round(values.count - within) + beyond)
        for bound, within in zip(values.bounds, values.cumulative, strict=True)
        if bound < math.inf
    ]


_Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class _Tail:
    """A tail that decays as exp(-rate * scale(t)); `inverse` is that of the scale."""

    inverse: _Scale
    rate: float
    likelihood: float


def _extrapolate(values: ScrapedHistogram, share: float, beyond: int) -> Bounded | None:
    survivors = _survivors(values, beyond)
    total = round(values.count) + beyond
    begin = next((each for each in survivors if each[1] <= TAIL_SHARE * total), None)
    if begin is None or begin[1] < TAIL_COUNT or begin[0] <= 0:
        return None
    start, count = begin
    cells = _cells([each for each in survivors if each[0] >= start])
    if len(cells) < 2:
        return None
    families: tuple[tuple[_Scale, _Scale], ...] = (
        (lambda t: t - start, lambda g: start + g),
        (lambda t: math.log(t / start), lambda g: start * math.exp(g)),
    )
    tail = max((_fitted(*family, cells) for family in families), key=lambda fitted: fitted.likelihood)
    # Both figures that it stands on are taken at the worse end of what the sample leaves open.
    rate = tail.rate * (1 - min(_Z / math.sqrt(count), 0.9))
    reach = math.log(share_at_most(count, total) / share) / rate
    return Bounded(tail.inverse(min(reach, 700.0)), share, extrapolated=True)


def _cells(survivors: list[tuple[float, int]]) -> list[tuple[float, float, int]]:
    """The buckets of the tail, each with its two bounds and its count; the last has no upper bound."""
    closed = [(low, high, n - m) for (low, n), (high, m) in pairwise(survivors) if n > m]
    last, left = survivors[-1]
    return [*closed, (last, math.inf, left)] if left else closed


def _fitted(scale: _Scale, inverse: _Scale, cells: list[tuple[float, float, int]]) -> _Tail:
    """The likeliest rate for these cells: where the derivative of the likelihood, which falls, is 0."""
    scaled = [(scale(low), math.inf if high == math.inf else scale(high), n) for low, high, n in cells]
    low, high = 1e-12, 1e12
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        if sum(n * _slope(a, b, middle) for a, b, n in scaled) > 0:
            low = middle
        else:
            high = middle
    rate = math.sqrt(low * high)
    return _Tail(inverse, rate, sum(n * _log_mass(a, b, rate) for a, b, n in scaled))


def _slope(low: float, high: float, rate: float) -> float:
    if high == math.inf:
        return -low
    width = high - low
    return -low + (width / math.expm1(rate * width) if rate * width < 700 else 0.0)


def _log_mass(low: float, high: float, rate: float) -> float:
    if high == math.inf:
        return -rate * low
    # Never 0: a cell is wider than nothing.
    return -rate * low + math.log(max(-math.expm1(-rate * (high - low)), 5e-324))
