"""Playing a plan: first with its faults, then without, until nothing is left."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from kvlease.fence.verifier import LOST_AFTER_S
from kvlease.logs import silenced
from kvlease.protocol import TIMING
from proof.promises.safety import Violation
from proof.simulate.decode import RECOMPUTE_S
from proof.simulate.engine import SimEngine
from proof.simulate.faults import LATE_S, Faults
from proof.simulate.plan import Plan
from proof.simulate.promises import QUICK_S, STEPS
from proof.simulate.users import apart_s
from proof.simulate.world import SimWorld

LAST_EVENTS = 60
IDLE_TURN_S = 0.9 * TIMING.lag_tolerance_s
LOOK_S = 0.25
"""The time from one search for stranded blocks to the next, in seconds."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The outcome of a run; it is equal for equal seeds and commits."""

    seed: int
    violation: Violation | None
    events: int
    """Turns of agents, steps of engines and workers, messages and reads."""
    simulated_s: float
    digest: str
    """SHA-256 of the whole trace, in hex."""
    counts: Counter[str]
    """The number of each happening: answers.<how>, faults.<kind>, ends.<cause>, verdicts.<verdict>, messages.<fate>."""
    last: tuple[str, ...]
    """The last events in words, oldest first; at most `LAST_EVENTS`."""


def run(plan: Plan, tell: Callable[[str], None] | None = None) -> RunOutcome:
    """Play `plan`: faults first, then none, until nothing is left. `tell` gets every event in words as it happens.

    A broken promise, or any other exception of the code under test (rule `error`), ends the run and is in the outcome.
    """
    world = SimWorld(plan, LAST_EVENTS, tell)
    violation: Violation | None = None
    with silenced():
        try:
            _play(world)
        except Violation as e:
            violation = e
        except Exception as e:  # noqa: BLE001 - whatever the code under test raises is what is looked for
            violation = Violation("error", f"{type(e).__name__}: {e}")
    if violation is not None:
        world.tell(str(violation))
    for engine in world.engines.values():
        late = {
            f"late_claims.{why}": engine.prefill.side.counts[f"late_claims.{why}"] for why in ("in_time", "too_late")
        }
        world.counts.update(late)
    counts = world.counts + Counter({f"messages.{fate}": n for fate, n in world.network.counts.items()})
    return RunOutcome(
        plan.seed, violation, world.agenda.events, world.agenda.now, world.digest, counts, tuple(world.last)
    )


def _play(world: SimWorld) -> None:
    Faults(world)
    look(world)
    faults_end_s = max([world.plan.faults_s, *(fault.at_s + fault.for_s for fault in world.plan.faults)])
    world.agenda.run_until(faults_end_s)
    world.tell("the faults are over")
    _answer_all(world)
    _free_all(world)
    _read_again(world)
    world.stranded.check_nothing_is_held()
    _reset_all(world)
    if world.plan.to_the_end:
        _fall_silent(world)


def _fall_silent(world: SimWorld) -> None:
    world.tell("nobody wants anything any more")
    for engine in world.engines.values():
        # Nothing happens for a long time: turns are seldom enough to be played quickly, often enough to count as no
        # pause.
        engine.turn_s = IDLE_TURN_S
    world.agenda.run_until(
        world.agenda.now + LATE_S + TIMING.idle_s + TIMING.session_idle_s + world.promises.recovery_s
    )
    world.stranded.check_nobody_is_known()


def _reset_all(world: SimWorld) -> None:
    """Reset every cache: of what has lapsed, nothing is left."""
    world.tell("all caches are reset")
    for engine in world.engines.values():
        engine.prefill.reset()
    # What is cleared by order takes steps, and what the agent hears of it a turn.
    world.agenda.run_until(world.agenda.now + (STEPS + 1) * world.plan.step_s + QUICK_S)
    world.stranded.check_nothing_is_left()


def look(world: SimWorld) -> None:
    """Judge what is judged from time to time, now and from now on."""
    world.stranded.check()
    world.promises.check_losses_are_known()
    if world.failover is not None:
        world.failover.check()
    world.agenda.after(LOOK_S, lambda: look(world))


def _answer_all(world: SimWorld) -> None:
    """Play until everybody who asked and did not go away has an answer: read, or computed again (L3)."""
    plan = world.plan
    # In the worst case they are answered one after the other, each after a read that is given up and a computation.
    busy_s = max((request.busy_s for request in plan.requests), default=0.0)
    each_s = LOST_AFTER_S + RECOMPUTE_S + busy_s + 8 * plan.step_s
    total = sum(request.siblings for request in plan.requests)
    world.agenda.run_until(world.agenda.now + LATE_S + each_s * total, lambda: not world.unanswered)
    if world.unanswered:
        raise Violation("L3", f"requests {sorted(world.unanswered)} are not answered")
    if world.router is not None and world.failover is not None:
        world.failover.check_nothing_is_left(world.router.fleet.snapshot(world.agenda.now))


def _read_again(world: SimWorld) -> None:
    """Check that every living engine can read from every other, at the second try at the latest (L3).

    The first one may find that an engine of this name is another than it was, and have to begin anew with it.
    """
    _ask_everybody(world)
    asked = _ask_everybody(world)
    if 2 * world.plan.read_s + QUICK_S > world.config.max_age_s:
        # Data and fence take longer than a lease may live.
        asked = {}
    for number, between in asked.items():
        if (how := world.users.outcomes.get(number)) != "read":
            raise Violation("L3", f"{between}, long after the last fault: {how or 'no answer'}")
    _free_all(world)


def _ask_everybody(world: SimWorld) -> dict[int, str]:
    asked = world.users.ask_everybody()
    within_s = LATE_S + apart_s(world.plan) * (len(world.engines) + 1)
    world.agenda.run_until(world.agenda.now + within_s, lambda: not world.users.unanswered)
    return asked


def _free_all(world: SimWorld) -> None:
    """Play until no engine has work or leases; that is within the deadlines of L1."""
    config, engines = world.config, world.engines.values()
    longest_s = max(config.duration_s, config.extension_s) + config.orphan_grace_s + LATE_S + world.promises.recovery_s

    def free() -> bool:
        return not any(_is_busy(engine) for engine in engines)

    world.agenda.run_until(world.agenda.now + longest_s + LOST_AFTER_S, free)
    if not free():
        busy = [engine.name for engine in engines if _is_busy(engine)]
        raise Violation("L1", f"nobody wants anything, and {', '.join(busy)} are not done")


def _is_busy(engine: SimEngine) -> bool:
    held = engine.prefill.side.blocks.held_leases > 0
    return held or engine.prefill.has_work or engine.decode.has_work
