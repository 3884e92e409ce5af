"""The promises about a drain, and whether they were kept.

Every figure is a number where less is better, and a promise is an upper limit. Stops without a drain are shown beside
it; of those only that no answer is wrong is promised, for kvlease.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvlease.console.numbers import count, seconds
from proof.drain.outcome import StopsRun

LONGER_S = 1.0
"""The time by which a drain may take longer than the longest read that it waits for."""


@dataclass(frozen=True)
class DrainPromise:
    """One figure of a run. `measure` gives None where it cannot be taken."""

    figure: str
    limit: float
    measure: Callable[[StopsRun], float | None]
    in_s: bool = False
    drained_alone: bool = True
    """True: nothing is promised of stops without a drain."""

    def text(self, run: StopsRun) -> str:
        """The figure as the table shows it."""
        value = self.measure(run)
        return "-" if value is None else seconds(value) if self.in_s else count(value)

    @property
    def limit_text(self) -> str:
        """The promise in words."""
        return f"at most {seconds(self.limit)}" if self.in_s else "none"

    def kept(self, run: StopsRun) -> bool | None:
        """Tells whether it was kept; None where nothing is promised."""
        if run.connector != "kvlease" or (self.drained_alone and not run.drained):
            return None
        value = self.measure(run)
        # A figure that could not be taken is no figure that was kept.
        return value is not None and value <= self.limit


def _longer_s(run: StopsRun) -> float | None:
    return max([0.0, *run.excesses_s()]) if run.drained and run.stops else None


def _left(run: StopsRun) -> float:
    return sum(run.left(stop) for stop in run.stops)


def _with_nothing_out(run: StopsRun) -> float:
    return sum(run.out(stop) == 0 for stop in run.stops)


PROMISES: tuple[DrainPromise, ...] = (
    DrainPromise("requests lost", 0, lambda run: run.count("lost")),
    DrainPromise("wrong answers", 0, lambda run: run.count("wrong"), drained_alone=False),
    DrainPromise("leases left at SIGTERM", 0, _left),
    DrainPromise("a drain longer than its longest read by", LONGER_S, _longer_s, in_s=True),
)


def broken(runs: Sequence[StopsRun]) -> list[str]:
    """The promises that were broken, and what else a proof must not have: stops that had nothing to wait for."""
    found = [
        f"{promise.figure}: {promise.text(run)}" for run in runs for promise in PROMISES if promise.kept(run) is False
    ]
    idle = [run for run in runs if run.drained and 2 * _with_nothing_out(run) > len(run.stops)]
    return found + [f"{_with_nothing_out(run):.0f} of {len(run.stops)} stops had no lease to wait for" for run in idle]
