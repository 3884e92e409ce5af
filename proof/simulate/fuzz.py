"""Many runs, of one seed after the other, in several processes, and the sum of their outcomes."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from kvlease.simulation.processes import in_processes
from proof.planted import PLANTED
from proof.simulate.plan import Plan, draw_plan
from proof.simulate.run import RunOutcome, run

CHUNK = 5
"""Runs that a process is given at a time: enough to outweigh the cost of asking, few enough to end in time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The run of this seed broke this rule."""

    seed: int
    rule: str
    text: str


@dataclass(slots=True)
class RunTally:
    """The sum of the outcomes of some runs."""

    runs: int = 0
    events: int = 0
    simulated_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def count(self, outcome: RunOutcome) -> None:
        self.runs += 1
        self.events += outcome.events
        self.simulated_s += outcome.simulated_s
        self.counts += outcome.counts
        if outcome.violation is not None:
            self.failures.append(Failure(outcome.seed, outcome.violation.rule, outcome.violation.text))

    def add(self, other: "RunTally") -> None:
        self.runs += other.runs
        self.events += other.events
        self.simulated_s += other.simulated_s
        self.counts += other.counts
        self.failures += other.failures


def plant(name: str | None) -> AbstractContextManager[None]:
    """Plants the bug of this name, or none, in this process for as long as the context lasts."""
    return nullcontext() if name is None else PLANTED[name].apply()


def plan_for(seed: int, planted: str | None) -> Plan:
    """Returns the plan of a seed in which a bug is hunted; None: no bug is planted."""
    return draw_plan(seed, routed=planted is None or PLANTED[planted].routed)


def fuzz(
    first: int,
    *,
    runs: int | None = None,
    seconds: float | None = None,
    jobs: int = 1,
    planted: str | None = None,
    failures: int = 1,
    watch: Callable[[RunTally], None] = lambda _: None,
) -> RunTally:
    """Play the seeds from `first` on, until `runs` are played, `seconds` are over or so many `failures` are found.

    `watch` sees the sum from time to time. Failures come in the order of their seeds.
    """
    total = RunTally()
    until = None if seconds is None else monotonic() + seconds

    def chunks() -> Iterator[range]:
        last = None if runs is None else first + runs
        for begin in itertools.count(first, CHUNK):
            late = until is not None and monotonic() >= until
            if late or (last is not None and begin >= last) or len(total.failures) >= failures:
                return
            yield range(begin, begin + CHUNK if last is None else min(begin + CHUNK, last))

    for tally in in_processes(partial(_play, planted), chunks(), jobs, partial(plant, planted)):
        total.add(tally)
        watch(total)
    total.failures.sort(key=lambda failure: failure.seed)
    return total


def _play(planted: str | None, seeds: range) -> RunTally:
    tally = RunTally()
    for seed in seeds:
        tally.count(run(plan_for(seed, planted)))
    return tally
