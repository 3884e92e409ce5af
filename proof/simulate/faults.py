"""The faults of a plan: how each strikes, and how it ends."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from proof.simulate.kinds import FaultKind, PlannedFault
from proof.simulate.network import GHOST_S, LONGEST_DELAY_S, Link

if TYPE_CHECKING:
    from proof.simulate.world import SimWorld


class Faults:
    """Strikes at the time that the plan has for each fault, and ends it again."""

    def __init__(self, world: "SimWorld") -> None:
        self._world = world
        for fault in world.plan.faults:
            world.agenda.at(fault.at_s, partial(self._strike, fault))

    def _strike(self, fault: PlannedFault) -> None:
        self._world.tell(f"fault: {fault}")
        self._world.counts[f"faults.{fault.kind.value}"] += 1
        end = _STRIKES[fault.kind](self._world, fault)
        if end is not None:
            self._world.agenda.after(fault.for_s, lambda: self._end(fault, end))

    def _end(self, fault: PlannedFault, end: Callable[[], None]) -> None:
        self._world.tell(f"over: {fault}")
        end()


End = Callable[[], None] | None


def _rough(world: "SimWorld", fault: PlannedFault, tail_s: float = 0.0) -> None:
    world.promises.trouble.between(fault.engine, fault.other, world.agenda.now + fault.for_s + tail_s)


def _hard(world: "SimWorld", fault: PlannedFault, tail_s: float = 0.0) -> None:
    world.promises.trouble.of_engine(fault.engine, world.agenda.now + fault.for_s + tail_s)


def _link(world: "SimWorld", fault: PlannedFault) -> Link:
    return world.network.link(fault.engine, fault.other)


def _loss(world: "SimWorld", fault: PlannedFault) -> End:
    _rough(world, fault)
    return _set(_link(world, fault), loss=fault.amount)


def _repeat(world: "SimWorld", fault: PlannedFault) -> End:
    # No trouble: repetition is to be harmless.
    return _set(_link(world, fault), repeat=fault.amount)


def _delay(world: "SimWorld", fault: PlannedFault) -> End:
    _rough(world, fault, LONGEST_DELAY_S)
    return _set(_link(world, fault), delay_s=fault.amount)


def _set(link: Link, **fields: float) -> End:
    """Give these fields of the link these values until the fault is over."""

    def put(values: Mapping[str, float]) -> None:
        for name, value in values.items():
            setattr(link, name, value)

    put(fields)
    return lambda: put(dict.fromkeys(fields, 0.0))


def _clog(world: "SimWorld", fault: PlannedFault) -> End:
    _rough(world, fault)
    link = _link(world, fault)
    link.clogged += 1

    def end() -> None:
        link.clogged -= 1
        if not link.clogged:
            world.network.unclog(fault.engine, fault.other)

    return end


def _cut(world: "SimWorld", fault: PlannedFault) -> End:
    return _cut_off(world, fault, _link(world, fault))


def _partition(world: "SimWorld", fault: PlannedFault) -> End:
    return _cut_off(world, fault, _link(world, fault), world.network.link(fault.other, fault.engine))


def _cut_off(world: "SimWorld", fault: PlannedFault, *links: Link) -> End:
    _rough(world, fault)
    for link in links:
        link.cut += 1

    def end() -> None:
        for link in links:
            link.cut -= 1

    return end


def _crash(world: "SimWorld", fault: PlannedFault) -> End:
    engine = world.engines[fault.engine]
    if not engine.alive:
        return None
    world.crash(fault.engine, death_shows=fault.amount == 0)

    def end() -> None:
        # The host answers again: connections to the old process break.
        world.network.ports[engine.incarnation].death_shows = True
        for worker in engine.prefill_workers:
            worker.death_is_seen()
        world.start(fault.engine)

    return end


def _restart(world: "SimWorld", fault: PlannedFault) -> End:
    if not world.engines[fault.engine].alive:
        return None
    world.shut_down(fault.engine)
    return lambda: world.start(fault.engine)


def _freeze(world: "SimWorld", fault: PlannedFault) -> End:
    _hard(world, fault)
    engine = world.engines[fault.engine]
    until = max(engine.frozen_until, world.agenda.now + fault.for_s)
    engine.frozen_s += until - max(engine.frozen_until, world.agenda.now)
    engine.frozen_until = until
    return None


def _slow_loop(world: "SimWorld", fault: PlannedFault) -> End:
    # The last slow turn may come `amount` seconds after the fault.
    _hard(world, fault, fault.amount)
    engine = world.engines[fault.engine]
    engine.turn_s = fault.amount

    def end() -> None:
        engine.turn_s = world.plan.turn_s

    return end


def _long_step(world: "SimWorld", fault: PlannedFault) -> End:
    engine = world.engines[fault.engine]
    # No trouble, unless it is so long that its agent stops renewing for it, as it should (R25).
    if fault.for_s > 0.9 * world.config.stall_limit_s:
        _hard(world, fault)
    engine.long_until = max(engine.long_until, world.agenda.now + fault.for_s)
    return None


def _pause(world: "SimWorld", fault: PlannedFault) -> End:
    _hard(world, fault)
    engine = world.engines[fault.engine]
    engine.pause()
    return engine.resume


def _clock(world: "SimWorld", fault: PlannedFault) -> End:
    engine = world.engines[fault.engine]
    engine.clock.run_at(1.0 + fault.amount)
    return lambda: engine.clock.run_at(1.0)


def _false_death(world: "SimWorld", fault: PlannedFault) -> End:
    engine, other = world.engines[fault.engine], world.engines[fault.other]
    world.promises.trouble.doubt(fault.engine, fault.other)
    engine.transport.doubt(other.incarnation)
    return None


def _echo(world: "SimWorld", fault: PlannedFault) -> End:
    # No trouble: what is late is to be harmless.
    world.network.echo(fault.engine, fault.other, fault.amount)
    return None


def _malformed(world: "SimWorld", fault: PlannedFault) -> End:
    source, target = world.engines[fault.other], world.engines[fault.engine]
    chance = world.chance.of("malformed bytes")
    size = chance.choice((0, 3, 4, 20, 300, 9000))
    prefix = chance.choice((b"", b"KVL\x01", b"KVL\x02"))
    world.network.deliver(source.incarnation, target.incarnation, prefix + chance.randbytes(size))
    return None


def _slow_read(world: "SimWorld", fault: PlannedFault) -> End:
    return _of_its_reads(world.plane.read_s, fault)


def _read_error(world: "SimWorld", fault: PlannedFault) -> End:
    return _of_its_reads(world.plane.errors, fault)


def _of_its_reads(amounts: dict[str, float], fault: PlannedFault) -> End:
    """Let the engine's reads have the fault's amount in this table until the fault is over."""
    amounts[fault.engine] = fault.amount

    def end() -> None:
        amounts.pop(fault.engine, None)

    return end


def _no_card(world: "SimWorld", fault: PlannedFault) -> End:
    _hard(world, fault)
    world.no_card[fault.engine] += 1

    def end() -> None:
        world.no_card[fault.engine] -= 1

    return end


def _agent_death(world: "SimWorld", fault: PlannedFault) -> End:
    engine = world.engines[fault.engine]
    if engine.alive:
        engine.kill_agent()
        # The engine takes what its agent has granted back one term later.
        until = world.agenda.now + world.config.duration_s
        world.promises.trouble.of_engine(fault.engine, until)
    return None


def _reset(world: "SimWorld", fault: PlannedFault) -> End:
    # Leases end without their consumers' doing, who may have to look for the engine anew.
    engine = world.engines[fault.engine]
    if engine.alive:
        engine.prefill.reset()
    return None


def _revoke(world: "SimWorld", fault: PlannedFault) -> End:
    # No trouble: nobody but those who want these leases is to notice.
    engine, chance = world.engines[fault.engine], world.chance.of("revocations")
    if engine.alive:
        for token in engine.prefill.side.blocks.held:
            if chance.random() < fault.amount:
                engine.agent.revoke(token)
    return None


def _refuse(world: "SimWorld", fault: PlannedFault, faults: Counter[str]) -> End:
    # No trouble: what a front refuses does not reach the engine.
    ill_until = world.fronts.ill_until
    ill_until[fault.engine] = max(ill_until.get(fault.engine, 0.0), world.agenda.now + fault.for_s)
    faults[fault.engine] += 1

    def end() -> None:
        faults[fault.engine] -= 1

    return end


def _busy(world: "SimWorld", fault: PlannedFault) -> End:
    return _refuse(world, fault, world.fronts.busy)


def _error(world: "SimWorld", fault: PlannedFault) -> End:
    return _refuse(world, fault, world.fronts.errors)


def _drain(world: "SimWorld", fault: PlannedFault) -> End:
    end = _refuse(world, fault, world.fronts.draining)
    if fault.amount:
        world.fronts.drain(fault.engine)
    return end


_STRIKES: dict[FaultKind, Callable[["SimWorld", PlannedFault], End]] = {
    FaultKind.LOSS: _loss,
    FaultKind.REPEAT: _repeat,
    FaultKind.DELAY: _delay,
    FaultKind.CLOG: _clog,
    FaultKind.CUT: _cut,
    FaultKind.PARTITION: _partition,
    FaultKind.CRASH: _crash,
    FaultKind.RESTART: _restart,
    FaultKind.FREEZE: _freeze,
    FaultKind.SLOW_LOOP: _slow_loop,
    FaultKind.LONG_STEP: _long_step,
    FaultKind.PAUSE: _pause,
    FaultKind.CLOCK: _clock,
    FaultKind.FALSE_DEATH: _false_death,
    FaultKind.ECHO: _echo,
    FaultKind.MALFORMED: _malformed,
    FaultKind.SLOW_READ: _slow_read,
    FaultKind.READ_ERROR: _read_error,
    FaultKind.NO_CARD: _no_card,
    FaultKind.AGENT_DEATH: _agent_death,
    FaultKind.RESET: _reset,
    FaultKind.REVOKE: _revoke,
    FaultKind.BUSY: _busy,
    FaultKind.ERROR: _error,
    FaultKind.DRAIN: _drain,
}
LATE_S = GHOST_S + LONGEST_DELAY_S
"""The time after the last fault in which old messages may still arrive, in seconds."""
