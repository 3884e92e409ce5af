"""The hunt for planted bugs: the number of runs that it takes to find each."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from kvlease.simulation.processes import in_processes
from proof.planted import PLANTED
from proof.promises.safety import Violation
from proof.simulate.fuzz import plan_for, plant
from proof.simulate.points import play_point, shuffled_points
from proof.simulate.run import run

RANGES = 5
"""The number of hunts for each bug, over seeds that have nothing in common."""
RANGE_SEEDS = 1_000_000
UNSTATED_RUNS = 1000
"""Runs after which a hunt is given up for a bug that the simulator need not find."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """A hunt for one planted bug, from one seed on."""

    name: str
    first_seed: int
    max_runs: int


@dataclass(frozen=True, slots=True)
class Quarry:
    """The outcome of a hunt."""

    hunt: Hunt
    runs: int | None
    """Runs up to and with the one that found it; None where none did."""
    rule: str = ""
    """The promise that it broke."""
    text: str = ""
    strays: tuple[str, ...] = ()
    """Rules that are not the bug's own and were broken before."""


def hunt_down(hunt: Hunt) -> Quarry:
    """Play one seed after the other with the bug planted, until a run breaks one of the bug's own rules."""
    bug = PLANTED[hunt.name]
    strays: list[str] = []
    with plant(hunt.name):
        for number, violation in enumerate(_violations(hunt, bug.struck)):
            if violation is None:
                continue
            if violation.rule in bug.rules:
                return Quarry(hunt, number + 1, violation.rule, violation.text, tuple(strays))
            strays.append(violation.rule)
    return Quarry(hunt, None, strays=tuple(strays))


def _violations(hunt: Hunt, struck: bool) -> Iterator[Violation | None]:
    if struck:
        for point in shuffled_points(hunt.first_seed)[: hunt.max_runs]:
            yield play_point(point).violation
        return
    for seed in range(hunt.first_seed, hunt.first_seed + hunt.max_runs):
        yield run(plan_for(seed, hunt.name)).violation


@dataclass(frozen=True, slots=True)
class Score:
    """The outcomes of all hunts for one planted bug."""

    name: str
    quarries: tuple[Quarry, ...]

    @property
    def found(self) -> bool:
        """Tells whether every hunt found the bug."""
        return all(quarry.runs is not None for quarry in self.quarries)

    @property
    def in_time(self) -> bool:
        """Tells whether every hunt found the bug within the runs that are stated for it; true where none are stated."""
        within = PLANTED[self.name].within_runs
        if within is None:
            return True
        return all(quarry.runs is not None and quarry.runs <= within for quarry in self.quarries)

    @property
    def median_runs(self) -> float:
        """The median of the runs that the hunts took; infinite where most found nothing."""
        return median(float("inf") if quarry.runs is None else quarry.runs for quarry in self.quarries)

    @property
    def most_runs(self) -> float:
        return max(float("inf") if quarry.runs is None else quarry.runs for quarry in self.quarries)

    @property
    def rules(self) -> list[str]:
        return sorted({quarry.rule for quarry in self.quarries if quarry.rule})


def scores(
    names: Iterable[str],
    *,
    ranges: int = RANGES,
    max_runs: int | None = None,
    jobs: int = 1,
    watch: Callable[[Quarry], None] = lambda _: None,
) -> list[Score]:
    """Hunt for each of these bugs, from `ranges` seeds on that lie far apart; at most `max_runs` runs, or as stated
    (`UNSTATED_RUNS` for those that are the explorer's to find)."""
    hunts = [
        Hunt(name, number * RANGE_SEEDS, max_runs or PLANTED[name].within_runs or UNSTATED_RUNS)
        for name in names
        for number in range(ranges)
    ]
    found: dict[Hunt, Quarry] = {}
    for quarry in in_processes(hunt_down, hunts, jobs):
        found[quarry.hunt] = quarry
        watch(quarry)
    return [
        Score(name, tuple(found[hunt] for hunt in hunts if hunt.name == name))
        for name in dict.fromkeys(hunt.name for hunt in hunts)
    ]
