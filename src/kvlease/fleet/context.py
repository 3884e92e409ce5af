"""What every part of a run is given: the settings, the time, the chance, and the books."""

from dataclasses import dataclass

from kvlease.fleet.books import FleetBooks
from kvlease.fleet.settings import Fleet
from kvlease.simulation.agenda import Agenda
from kvlease.simulation.chance import Chance


@dataclass(frozen=True, slots=True)
class FleetContext:
    """Of one run. It knows no engine, no policy and no router: what happens, each part tells those it was given."""

    fleet: Fleet
    agenda: Agenda
    chance: Chance
    books: FleetBooks

    @classmethod
    def begin(cls, fleet: Fleet, seed: int) -> "FleetContext":
        """Of a run that begins at 0 s."""
        return cls(fleet, Agenda(), Chance(seed), FleetBooks(fleet.slo_ttft_s))
