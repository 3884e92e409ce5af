"""The comparison of policies: the same requests and the same faults under each of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

from kvlease.fleet.named import policy_named
from kvlease.fleet.outcome import FleetOutcome
from kvlease.fleet.play import play
from kvlease.fleet.scenarios import USUAL_LOAD, Scenario
from kvlease.fleet.settings import Fleet
from kvlease.fleet.traffic.source import Capacity, Shape, Source, at_rate, capacity, look, requests
from kvlease.simulation.processes import Watch, in_processes

MILLION = 1_000_000
FAST_ENOUGH_S = 300.0
"""The goal for a million requests on one core: five minutes."""


@dataclass(frozen=True, slots=True)
class ComparisonSetup:
    """The settings that all runs of a comparison share."""

    fleet: Fleet
    source: Source
    count: int
    """The number of requests of each run."""
    seed: int
    rate: float | None = None
    """The requests a second in scenarios of the usual load; None: the usual share of the fleet's capacity."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The means of the setup's requests, and the capacity of its fleet for these."""

    shape: Shape
    capacity: Capacity

    def rate_in(self, scenario: Scenario, usual: float | None) -> float:
        """Returns the requests a second in a scenario."""
        if usual is None:
            return self.capacity.least * scenario.load
        return usual * scenario.load / USUAL_LOAD


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """One policy in one scenario: all that another process needs to play it."""

    scenario: Scenario
    policy: str
    setup: ComparisonSetup
    source: Source
    """The requests, at this scenario's rate."""


@dataclass(frozen=True, slots=True)
class ScenarioOutcomes:
    """The outcomes of a scenario, one for each policy, in the order in which these were asked for."""

    scenario: Scenario
    rate: float
    """The requests a second, on average."""
    outcomes: Sequence[FleetOutcome]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcomes of all scenarios, and their setup."""

    setup: ComparisonSetup
    terms: Terms
    rounds: Sequence[ScenarioOutcomes]
    wall_s: float

    @property
    def outcomes(self) -> list[FleetOutcome]:
        """The outcomes of all scenarios in one list."""
        return [outcome for each in self.rounds for outcome in each.outcomes]


def terms(setup: ComparisonSetup) -> Terms:
    """Returns the terms of the first requests. Raises `TraceError`, `SourceError`."""
    found = look(setup.source, setup.count, setup.seed)
    return Terms(found, capacity(setup.fleet, found))


def compare(
    setup: ComparisonSetup,
    scenarios: Sequence[Scenario],
    policies: Sequence[str],
    jobs: int,
    watch: Watch = lambda *_: None,
) -> Comparison:
    """Plays every policy in every scenario, `jobs` of them at a time. Raises `TraceError`, `SourceError`."""
    began = perf_counter()
    given = terms(setup)
    rates = {scenario.name: given.rate_in(scenario, setup.rate) for scenario in scenarios}
    runs = [
        PolicyRun(scenario, policy, setup, at_rate(setup.source, rates[scenario.name], given.shape))
        for scenario in scenarios
        for policy in policies
    ]
    outcomes = dict(_play_all(runs, jobs, watch))
    rounds = [
        ScenarioOutcomes(scenario, rates[scenario.name], [outcomes[scenario.name, policy] for policy in policies])
        for scenario in scenarios
    ]
    return Comparison(setup, given, rounds, perf_counter() - began)


Key = tuple[str, str]


def _play_all(runs: Sequence[PolicyRun], jobs: int, watch: Watch) -> Iterator[tuple[Key, FleetOutcome]]:
    if jobs == 1 or len(runs) == 1:
        # One job runs in this process, so that progress can be told within a run, too.
        for number, run in enumerate(runs):
            name = f"{run.scenario.name}, {run.policy}"

            def within(done: int, number: int = number, name: str = name, count: int = run.setup.count) -> None:
                watch(name, (number + done / count) / len(runs))

            yield (run.scenario.name, run.policy), _play(run, within)
        return
    for number, (key, outcome) in enumerate(in_processes(_play_in_process, runs, jobs), start=1):
        watch(", ".join(key), number / len(runs))
        yield key, outcome


def _play_in_process(run: PolicyRun) -> tuple[Key, FleetOutcome]:
    return (run.scenario.name, run.policy), _play(run)


def _play(run: PolicyRun, on_progress: Callable[[int], None] | None = None) -> FleetOutcome:
    setup = run.setup
    arrivals = requests(run.source, setup.count, setup.seed)
    return play(setup.fleet, policy_named(run.policy), arrivals, run.scenario.faults, setup.seed, on_progress)


def pace(outcomes: Sequence[FleetOutcome]) -> float:
    """Returns the seconds that a million requests take on one core, at the speed of the slowest policy."""
    slowest = min((outcome.cost.requests_per_wall_s for outcome in outcomes), default=0.0)
    return MILLION / slowest if slowest else float("inf")


def describe_pace(outcomes: Sequence[FleetOutcome]) -> str:
    """Returns the pace in one sentence, which says whether it is fast enough."""
    slowest = min(outcomes, key=lambda outcome: outcome.cost.requests_per_wall_s)
    took_s = pace(outcomes)
    verdict = "under" if took_s < FAST_ENOUGH_S else "NOT under"
    return (
        f"{slowest.cost.requests_per_wall_s:,.0f} requests a second of wall time at the slowest ({slowest.policy}): a "
        f"million would take {took_s / 60:.1f} minutes on one core, {verdict} the {FAST_ENOUGH_S / 60:.0f} that are "
        "the goal"
    )
