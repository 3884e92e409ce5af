"""The output of the simulator's commands: sums, and the table of planted bugs."""

from collections.abc import Iterator, Sequence

from kvlease.console.tables import Cell, Table
from proof.planted import PLANTED
from proof.simulate.fuzz import RunTally
from proof.simulate.hunt import Quarry, Score
from proof.simulate.points import ROLES, PointSweep
from proof.simulate.strikes import Strike

GROUPS = {
    "faults": "faults by kind",
    "answers": "answers by how they came",
    "ends": "leases by the cause of their end",
    "late_claims": "claims of leases that had lapsed, by what came of them",
    "verdicts": "fence checks by verdict",
    "router": "facts that the router told",
    "failures": "calls of the router that failed, by how",
    "releases": "leases that the router released, by whom",
}
"""Prefixes of `Outcome.counts`, and what they are called."""


def describe_sum(tally: RunTally, took_s: float) -> str:
    """Describes the sum of some runs in one line."""
    rate = tally.runs / took_s if took_s else 0.0
    return (
        f"{tally.runs:,} runs, {rate:.1f}/s, {tally.events:,} events, {tally.simulated_s / 3600:,.1f} simulated hours, "
        f"{len(tally.failures)} failures"
    )


def tables(tally: RunTally) -> Iterator[Table]:
    """The tables of what happened in all runs together, one for each of `GROUPS` that has anything."""
    for prefix, title in GROUPS.items():
        found = {
            name.removeprefix(f"{prefix}."): count
            for name, count in sorted(tally.counts.items())
            if name.startswith(f"{prefix}.")
        }
        if found:
            yield Table(("", ""), [(name, f"{count:,}") for name, count in found.items()], title)


BECAME = (
    "read at once",
    "handed on",
    "continued",
    "broken off",
    "prefilled again",
    "computed by D",
    "refused",
    "client gone",
)
"""The ends of a request of the small world, when something is struck (`proof.simulate.points`)."""


def points_table(found: PointSweep) -> Table:
    """The table of what became of the requests, with a line for each strike at each role."""
    order = sorted(found.counts, key=lambda key: (ROLES.index(key[0]), list(Strike).index(key[1])))
    lines = [
        (f"{role} {strike}", *(f"{found.counts[role, strike][name]:,}" for name in ("points", *BECAME)))
        for role, strike in order
    ]
    return Table(("", "points", *BECAME), lines, "what became of the requests of the small world, by what was struck")


def describe_quarry(quarry: Quarry) -> str:
    hunt = quarry.hunt
    if quarry.runs is None:
        return f"{hunt.name}: not found in {hunt.max_runs} runs from seed {hunt.first_seed}"
    return f"{hunt.name}: {quarry.rule} in run {quarry.runs} from seed {hunt.first_seed}"


def planted_table(scores: Sequence[Score]) -> Table:
    """The table of planted bugs, with a line for each."""
    ranges = len(scores[0].quarries) if scores else 0
    return Table(
        ("planted bug", "breaks", "median run", "worst run", "stated"),
        [_scored(score) for score in scores],
        title=f"planted bugs, each hunted over {ranges} ranges of seeds",
        texts=2,
    )


def _scored(score: Score) -> list[str | Cell]:
    stated = PLANTED[score.name].within_runs
    return [
        Cell(score.name, "" if score.in_time else "bad"),
        ", ".join(score.rules) or "nothing",
        _runs(score.median_runs),
        _runs(score.most_runs),
        "explorer" if stated is None else str(stated),
    ]


def _runs(number: float) -> str:
    return "not found" if number == float("inf") else f"{number:g}"
