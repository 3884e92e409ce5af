"""The faults of a run, at given times and by chance, the same for every policy."""

from collections.abc import Sequence
from typing import Protocol

from kvlease.errors import ConfigError
from kvlease.fleet.context import FleetContext
from kvlease.fleet.settings import Crash, Fleet, FleetFaults, Side, Stall


class FragileEngine(Protocol):
    """An engine as faults act on it."""

    @property
    def side(self) -> Side: ...

    @property
    def index(self) -> int: ...

    @property
    def alive(self) -> bool: ...

    def stall(self, until: float, process: bool) -> None:
        """Stops the engine: no step ends before `until`; `process`: none of its threads runs, either."""

    def crash(self) -> None:
        """Ends the engine's life, and all that it holds."""

    def start(self) -> None:
        """Starts the engine again."""


def check(fleet: Fleet, faults: FleetFaults) -> None:
    """Raises `ConfigError` where an engine that is to fail does not exist."""
    given: Sequence[Crash | Stall] = (*faults.crashes, *faults.stalls)
    for fault in given:
        there = fleet.producers if fault.side == "producer" else fleet.consumers
        if fault.index >= there:
            raise ConfigError(
                f"{fault} cannot be: the fleet has {there} {fault.side}s, counted from 0; name one below {there}"
            )


class FaultPlanner:
    """Plans the faults of a run. Those by chance end with `end`; those at given times happen in any case."""

    def __init__(
        self,
        context: FleetContext,
        faults: FleetFaults,
        producers: Sequence[FragileEngine],
        consumers: Sequence[FragileEngine],
    ) -> None:
        self._agenda = context.agenda
        self._books = context.books
        self._chance = context.chance
        self._faults = faults
        self._over = False
        sides: dict[Side, Sequence[FragileEngine]] = {"producer": producers, "consumer": consumers}
        for crash in faults.crashes:
            self._agenda.at(crash.at, self._crash, sides[crash.side][crash.index])
        for stall in faults.stalls:
            engine = sides[stall.side][stall.index]
            self._agenda.at(stall.at, self._stall, (engine, stall.lasts_s, stall.kind == "process"))
        for engine in (*producers, *consumers):
            self._plan_crash(engine)
            self._plan_stall(engine)

    def end(self) -> None:
        """Ends the faults by chance."""
        self._over = True

    # -- by chance ---------------------------------------------------------------------------------------------------

    def _plan_crash(self, engine: FragileEngine, after_s: float = 0.0) -> None:
        faults = self._faults
        rate = faults.producer_crashes_per_hour if engine.side == "producer" else faults.consumer_crashes_per_hour
        if rate:
            chance = self._chance.of(f"crashes of {engine.side} {engine.index}")
            at = self._agenda.now + after_s + chance.expovariate(rate / 3600)
            self._agenda.perhaps(at, self._chance_crash, engine)

    def _chance_crash(self, engine: FragileEngine) -> None:
        if not self._over:
            self._crash(engine)
            self._plan_crash(engine, self._faults.restart_s)

    def _plan_stall(self, engine: FragileEngine) -> None:
        faults = self._faults
        rate = faults.producer_stalls_per_hour if engine.side == "producer" else faults.consumer_stalls_per_hour
        if rate:
            chance = self._chance.of(f"stalls of {engine.side} {engine.index}")
            at = self._agenda.now + chance.expovariate(rate / 3600)
            lasts_s = chance.expovariate(1 / faults.stall_s) if faults.stall_s else 0.0
            process = chance.random() < faults.process_share
            self._agenda.perhaps(at, self._chance_stall, (engine, lasts_s, process))

    def _chance_stall(self, stall: tuple[FragileEngine, float, bool]) -> None:
        if not self._over:
            self._stall(stall)
            self._plan_stall(stall[0])

    # -- what happens ------------------------------------------------------------------------------------------------

    def _crash(self, engine: FragileEngine) -> None:
        if not engine.alive:
            return
        self._books.fault("crashes", self._agenda.now)
        engine.crash()
        self._agenda.at(self._agenda.now + self._faults.restart_s, self._restart, engine)

    def _restart(self, engine: FragileEngine) -> None:
        engine.start()

    def _stall(self, stall: tuple[FragileEngine, float, bool]) -> None:
        engine, lasts_s, process = stall
        if not engine.alive or lasts_s <= 0:
            return
        self._books.fault("stalls", self._agenda.now)
        engine.stall(self._agenda.now + lasts_s, process)
