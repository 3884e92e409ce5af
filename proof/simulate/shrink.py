"""A failing run cut down to the fewest faults, and then the fewest requests, that still break the same promise.

Delta debugging (Zeller and Hildebrandt 2002, ddmin) over the numbers of a plan's faults and requests. Faults first:
they are what somebody has to understand. What comes out is named by the numbers that are left, so it can be replayed.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proof.simulate.plan import Plan
from proof.simulate.run import RunOutcome, run

MAX_RUNS = 600
"""Runs that one shrinking may take; most need some dozens."""

Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A plan that was cut down and fails as the whole one did; where `minimal`, not without any one of its parts."""

    plan: Plan
    outcome: RunOutcome
    faults: Numbers
    """The numbers of the faults that are left, in the whole plan; `requests` likewise."""
    requests: Numbers
    runs: int
    minimal: bool
    """False where the runs did not suffice to try all."""


class _Exhausted(Exception):
    """No more runs are allowed."""


class _Search:
    """The smallest failing choice so far, and what it took to find it."""

    def __init__(self, whole: Plan, rule: str, play: Callable[[Plan], RunOutcome], max_runs: int) -> None:
        self.whole = whole
        self.faults = tuple(range(len(whole.faults)))
        self.requests = tuple(range(len(whole.requests)))
        self.outcome: RunOutcome | None = None
        self.runs = 0
        self._rule = rule
        self._play = play
        self._max_runs = max_runs
        self._tried: set[tuple[Numbers, Numbers]] = set()

    def still_fails(self, faults: Numbers, requests: Numbers) -> bool:
        """Tells whether the promise is broken with these alone; if so, they are the choice that is cut down next."""
        if (faults, requests) in self._tried:
            return False
        if self.runs >= self._max_runs:
            raise _Exhausted
        self._tried.add((faults, requests))
        self.runs += 1
        outcome = self._play(self.whole.keeping(requests=requests, faults=faults))
        if outcome.violation is None or outcome.violation.rule != self._rule:
            return False
        self.faults, self.requests, self.outcome = faults, requests, outcome
        return True


def shrink(whole: Plan, rule: str, play: Callable[[Plan], RunOutcome] = run, max_runs: int = MAX_RUNS) -> Shrunk:
    """Cut `whole`, which breaks `rule`, down. The same plan and code give the same result.

    `play` plays a plan. Raises `ValueError` when the whole plan does not break `rule`.
    """
    search = _Search(whole, rule, play, max_runs)
    if not search.still_fails(search.faults, search.requests):
        raise ValueError(f"the plan of seed {whole.seed} does not break {rule}")
    try:
        _cut(search)
    except _Exhausted:
        minimal = False
    else:
        minimal = True
    assert search.outcome is not None
    plan = whole.keeping(requests=search.requests, faults=search.faults)
    return Shrunk(plan, search.outcome, search.faults, search.requests, search.runs, minimal)


def _cut(search: _Search) -> None:
    """Cut faults and requests down by turns until neither can be cut: fewer of the one may need fewer of the other."""
    before = None
    while before != (search.faults, search.requests):
        before = (search.faults, search.requests)
        _fewest(search.faults, lambda kept: search.still_fails(kept, search.requests))
        _fewest(search.requests, lambda kept: search.still_fails(search.faults, kept))


def _fewest(numbers: Numbers, still_fails: Callable[[Numbers], bool]) -> None:
    """Leave out ever smaller parts, until nothing can be left out by itself (ddmin)."""
    parts = 1
    while numbers:
        left_out = next((part for part in _split(numbers, parts) if still_fails(_without(numbers, part))), None)
        if left_out is not None:
            numbers = _without(numbers, left_out)
            parts = max(parts - 1, 1)
        elif parts == len(numbers):
            return
        else:
            parts = min(parts * 2, len(numbers))


def _split(numbers: Numbers, parts: int) -> Sequence[Numbers]:
    ends = [len(numbers) * part // parts for part in range(parts + 1)]
    return [numbers[begin:end] for begin, end in itertools.pairwise(ends)]


def _without(numbers: Numbers, part: Numbers) -> Numbers:
    return tuple(number for number in numbers if number not in part)
