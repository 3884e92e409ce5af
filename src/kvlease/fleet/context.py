"""The context that every part of a run is given: the settings, the time, the chance, and the books."""

from dataclasses import dataclass

from kvlease.fleet.books import FleetBooks
from kvlease.fleet.settings import Fleet
from kvlease.simulation.agenda import Agenda
from kvlease.simulation.chance import Chance


@dataclass(frozen=True, slots=True)
class FleetContext:
    """The context of one run. It knows no engine, policy or router: each part tells those it was given what happens."""

    fleet: Fleet
    agenda: Agenda
    chance: Chance
    books: FleetBooks

    @classmethod
    def begin(cls, fleet: Fleet, seed: int) -> "FleetContext":
        """Returns the context of a run that begins at 0 s."""
        return cls(fleet, Agenda(), Chance(seed), FleetBooks(fleet.slo_ttft_s))
