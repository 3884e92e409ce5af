"""The named settings in which policies are compared: the load, and the faults."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from kvlease.fleet.settings import NO_FAULTS, Fleet, FleetFaults
from kvlease.fleet.traffic.source import LOOKED_AT, Source, at_rate, capacity, look

ScenarioName = Literal["calm", "crashes", "stalls", "overload"]

USUAL_LOAD = 0.65
"""The average load as a share of the fleet's capacity, which bursts exceed for a while, as on a well-used fleet."""
TOO_MUCH = 1.25


@dataclass(frozen=True, slots=True)
class Scenario:
    """A setting that is played under each policy. Faults are far more frequent than real ones, so minutes do for
    weeks."""

    name: ScenarioName
    what: str
    """The scenario in a sentence, for tables and reports."""
    load: float = USUAL_LOAD
    """The average rate of requests as a share of the fleet's capacity (`kvlease.fleet.traffic.source.capacity`)."""
    faults: FleetFaults = field(default=NO_FAULTS)


SCENARIOS: dict[ScenarioName, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("calm", "nothing goes wrong: what leases cost where nobody needs them"),
        Scenario(
            "crashes",
            "each decode engine dies 6 times an hour on average, each prefill engine once, and is back after 30 s",
            faults=FleetFaults(consumer_crashes_per_hour=6.0, producer_crashes_per_hour=1.0, restart_s=30.0),
        ),
        Scenario(
            "stalls",
            "each decode engine stands still 12 times an hour for 20 s on average, half of the times in one long step, "
            "half of them with all of its threads",
            faults=FleetFaults(consumer_stalls_per_hour=12.0, stall_s=20.0, process_share=0.5),
        ),
        Scenario("overload", "a quarter more requests come than the fleet can do: queues only grow", load=TOO_MUCH),
    )
}

assert tuple(SCENARIOS) == get_args(ScenarioName)


def at_usual_rate(source: Source, fleet: Fleet, rate: float | None, seed: int) -> Source:
    """Returns the same requests at `rate` a second; None: at the usual share of the fleet's capacity. Raises
    `TraceError`, `SourceError`."""
    found = look(source, LOOKED_AT, seed)
    return at_rate(source, rate or capacity(fleet, found).least * USUAL_LOAD, found)
