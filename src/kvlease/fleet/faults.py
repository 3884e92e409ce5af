"""What goes wrong in a run: at given times, and by chance, the same for every policy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvlease.errors import ConfigError
from kvlease.fleet.decode import Consumer
from kvlease.fleet.prefill import Producer
from kvlease.fleet.settings import Crash, Faults, Fleet, Stall

if TYPE_CHECKING:
    from kvlease.fleet.world import World

Engine = Producer | Consumer


def check(fleet: Fleet, faults: Faults) -> None:
    """Every engine that is to fail is there. Raises `ConfigError`."""
    given: Sequence[Crash | Stall] = (*faults.crashes, *faults.stalls)
    for fault in given:
        there = fleet.producers if fault.side == "producer" else fleet.consumers
        if fault.index >= there:
            raise ConfigError(
                f"{fault} cannot be: the fleet has {there} {fault.side}s, counted from 0; name one below {there}"
            )


class Trouble:
    """Plans the faults of a run. Chance goes on until `end`; what was given happens in any case."""

    def __init__(self, world: "World", faults: Faults) -> None:
        self._world = world
        self._faults = faults
        self._over = False
        for crash in faults.crashes:
            world.agenda.at(crash.at, self._crash, self._engine(crash))
        for stall in faults.stalls:
            world.agenda.at(stall.at, self._stall, (self._engine(stall), stall.lasts_s, stall.kind == "process"))
        engines: list[Engine] = [*world.producers, *world.consumers]
        for engine in engines:
            self._plan_crash(engine)
            self._plan_stall(engine)

    def end(self) -> None:
        """No more chance from here on."""
        self._over = True

    def _engine(self, fault: Crash | Stall) -> Engine:
        engines: Sequence[Engine] = self._world.producers if fault.side == "producer" else self._world.consumers
        return engines[fault.index]

    # -- by chance ---------------------------------------------------------------------------------------------------

    def _plan_crash(self, engine: Engine, after_s: float = 0.0) -> None:
        producer = isinstance(engine, Producer)
        rate = self._faults.producer_crashes_per_hour if producer else self._faults.consumer_crashes_per_hour
        if rate:
            chance = self._world.chance.of(f"crashes of {_name(engine)}")
            at = self._world.agenda.now + after_s + chance.expovariate(rate / 3600)
            self._world.agenda.perhaps(at, self._chance_crash, engine)

    def _chance_crash(self, engine: Engine) -> None:
        if not self._over:
            self._crash(engine)
            self._plan_crash(engine, self._faults.restart_s)

    def _plan_stall(self, engine: Engine) -> None:
        producer = isinstance(engine, Producer)
        rate = self._faults.producer_stalls_per_hour if producer else self._faults.consumer_stalls_per_hour
        if rate:
            chance = self._world.chance.of(f"stalls of {_name(engine)}")
            at = self._world.agenda.now + chance.expovariate(rate / 3600)
            lasts_s = chance.expovariate(1 / self._faults.stall_s) if self._faults.stall_s else 0.0
            process = chance.random() < self._faults.process_share
            self._world.agenda.perhaps(at, self._chance_stall, (engine, lasts_s, process))

    def _chance_stall(self, stall: tuple[Engine, float, bool]) -> None:
        if not self._over:
            self._stall(stall)
            self._plan_stall(stall[0])

    # -- what happens ------------------------------------------------------------------------------------------------

    def _crash(self, engine: Engine) -> None:
        world = self._world
        if not engine.alive:
            return
        world.books.fault("crashes", world.agenda.now)
        victims = engine.crash()
        world.leasing.died(engine)
        if isinstance(engine, Producer):
            world.router.producer_died(victims)
        else:
            world.router.consumer_died(victims)
        world.agenda.at(world.agenda.now + self._faults.restart_s, self._restart, engine)

    def _restart(self, engine: Engine) -> None:
        engine.restart()
        self._world.leasing.started(engine)

    def _stall(self, stall: tuple[Engine, float, bool]) -> None:
        engine, lasts_s, process = stall
        world = self._world
        if not engine.alive or lasts_s <= 0:
            return
        world.books.fault("stalls", world.agenda.now)
        until = world.agenda.now + lasts_s
        engine.stall(until)
        world.leasing.stalled(engine, until, process)


def _name(engine: Engine) -> str:
    return f"{'producer' if isinstance(engine, Producer) else 'consumer'} {engine.index}"
