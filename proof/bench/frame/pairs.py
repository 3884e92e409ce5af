"""Timing of two calls side by side, so that whatever the machine does meanwhile, it does to both.

Blocks of calls alternate (ours stock, stock ours, ours stock, …): a drift over the whole run favours neither. A block
is long enough for the clock's error not to matter. A ratio is that of two neighbouring blocks, never of two medians.

The garbage collector runs as it does in an engine: switched on, after one full collection before the first block, so
that no call pays for what was set up. (`timeit` switches it off, and leaves out what objects cost that live on.)
Calling through Python's `for` costs both sides the same 20 to 40 ns, which are left in.
"""

import gc
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proof.bench.frame.figures import Effort, FigureRow, Spread


@dataclass(frozen=True, slots=True)
class Work:
    """The work that is timed."""

    call: Callable[[], object]
    prepare: Callable[[int], object] | None = None
    """It is called untimed before each block, with the number of calls to come, and lays ready what they use up."""
    between: Callable[[], object] | None = None
    """It is called untimed after each call, where one needs it before the next. Each call is then timed by itself,
    which adds the clock's own 50 ns to it."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """The time to measure for. A comparison takes `budget_s` at most, unless `least_pairs` take longer."""

    pairs: int
    block_s: float
    """A block has so many calls that it takes at least this long; one call when that takes longer."""
    budget_s: float
    least_pairs: int


def timing(effort: Effort) -> Repeats:
    """The usual timing for an effort."""
    if effort is Effort.SHORT:
        return Repeats(pairs=7, block_s=0.002, budget_s=2.0, least_pairs=3)
    return Repeats(pairs=101, block_s=0.02, budget_s=20.0, least_pairs=9)


def rounds(works: Sequence[Work], amount: Repeats) -> list[list[float]]:
    """Times all works; returns the µs of a call for each, a value a round; those of a round were taken together."""
    calls = [_calls_in_a_block(work, amount) for work in works]
    found: list[list[float]] = [[] for _ in works]
    gc.collect()
    end = time.perf_counter() + amount.budget_s
    while _goes_on(len(found[0]), end, amount):
        order = range(len(works))
        for i in order if len(found[0]) % 2 == 0 else reversed(order):
            found[i].append(_block_us(works[i], calls[i]))
    return found


def compare(what: str, ours: Work, stock: Work, amount: Repeats) -> FigureRow:
    """The row of two works, in µs a call."""
    return paired(what, "µs", *rounds([ours, stock], amount))


def alone(what: str, ours: Work, amount: Repeats) -> FigureRow:
    """The row of one work, where the other side has nothing like it; in µs a call."""
    return FigureRow(what, "µs", Spread.of(rounds([ours], amount)[0]))


def paired(what: str, unit: str, ours: Sequence[float], stock: Sequence[float]) -> FigureRow:
    """The row of values that were taken in pairs, in whatever unit. Raises `ValueError` where one has no partner."""
    ratios = [a / b for a, b in zip(ours, stock, strict=True)]
    return FigureRow(what, unit, Spread.of(ours), Spread.of(stock), Spread.of(ratios))


def _goes_on(pairs: int, end: float, amount: Repeats) -> bool:
    if pairs < amount.least_pairs:
        return True
    return pairs < amount.pairs and time.perf_counter() < end


def _calls_in_a_block(work: Work, amount: Repeats) -> int:
    """Doubles the calls until a block is long enough; the blocks tried warm up caches, the interpreter's too."""
    calls = 1
    while (took_s := _block_us(work, calls) * calls / 1e6) < amount.block_s:
        calls = min(calls * 2, max(calls + 1, int(calls * 1.2 * amount.block_s / took_s)))
    return calls


def _block_us(work: Work, calls: int) -> float:
    """The mean of one block, in µs a call."""
    if work.prepare is not None:
        work.prepare(calls)
    took_s = _together_s(work.call, calls) if work.between is None else _singly_s(work.call, work.between, calls)
    return took_s / calls * 1e6


def _together_s(call: Callable[[], object], calls: int) -> float:
    begun = time.perf_counter()
    for _ in itertools.repeat(None, calls):
        call()
    return time.perf_counter() - begun


def _singly_s(call: Callable[[], object], between: Callable[[], object], calls: int) -> float:
    took_s = 0.0
    for _ in itertools.repeat(None, calls):
        begun = time.perf_counter()
        call()
        took_s += time.perf_counter() - begun
        between()
    return took_s
