"""A small world in which one thing goes wrong at every point: between any two of the events of its run.

One P, two Ds, a few requests through kvlease's router. The run is played once to count its events, then once for each
strike at each point, to its end. Beside what every run is judged by, the small world is held to more: with one D
struck, whatever has no token yet is answered by a read, of what was computed once.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

from kvlease.logs import silenced
from kvlease.routing.policy import RetryPolicy, TimeLimits
from kvlease.simulation.chance import stream
from kvlease.simulation.processes import in_processes
from proof.promises.safety import Violation
from proof.simulate.failover import RoutedFacts
from proof.simulate.fuzz import plant
from proof.simulate.plan import Plan, UserRequest
from proof.simulate.routed_plan import RouterPlan
from proof.simulate.run import look
from proof.simulate.strikes import Strike, strike_at
from proof.simulate.world import SimWorld

LAST_EVENTS = 60
AFTER_S = 0.2
"""The time after the last answer at which points end."""
WITHIN_S = 30.0
"""The longest time in which all requests come to their ends after a strike."""
TERM_S = 6.0
"""The term of a lease."""
FREED_S = 2.5
"""The longest time from the last answer to the last lease's end, where all engines that live are heard: the grace of a
dead consumer, and releases of which some are not answered. It is less than the term."""

SPREAD = 97
"""A prime number, by which the points that are left out differ."""
BOTH = "d0+d1"
BREAKS = "breaks"
"""The word for a router that continues no stream, in a point as it is written."""
ENGINES = ("p0", "d0", "d1", BOTH)
CLIENTS = ("r0", "r1", "r2")


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that goes wrong at one point."""

    strike: Strike
    target: str
    """An engine, or a client."""
    event: int
    """The number of events before it."""
    continues: bool = True
    """The router continues streams."""

    @property
    def written(self) -> str:
        """The point as it is written on a command line."""
        return f"{self.target},{self.strike},{self.event}" + ("" if self.continues else f",{BREAKS}")

    @classmethod
    def read(cls, text: str) -> Self:
        """Returns the point that is written so. Raises `ValueError` for what is none."""
        parts = text.split(",")
        if len(parts) == 4 and parts[3] == BREAKS:
            return replace(cls.read(",".join(parts[:3])), continues=False)
        target, strike, event = parts
        known = CLIENTS if Strike(strike) is Strike.LEAVES else ENGINES
        if target not in known or not event.isdigit():
            raise ValueError(f"{target} is none of {', '.join(known)}, or {event} no number of events")
        return cls(Strike(strike), target, int(event))

    def __str__(self) -> str:
        streams = "continues" if self.continues else "breaks off"
        return f"{self.target} {self.strike} after event {self.event}, and the router {streams} what has begun"


@dataclass(slots=True)
class PointOutcome:
    """The outcome of a run with one strike; `counts` has what became of the requests."""

    point: Point
    violation: Violation | None
    counts: Counter[str] = field(default_factory=Counter)
    last: tuple[str, ...] = ()


def small_plan(continues: bool) -> Plan:
    """The plan of the small world."""
    policy = RetryPolicy(
        continue_streams=continues,
        limits=TimeLimits(
            connect_s=0.2, prefill_s=3.0, first_token_s=3.0, between_tokens_s=1.0, release_s=0.2, whole_answer_s=6.0
        ),
    )
    requests = (
        UserRequest(0.03, "p0", ("d0", "d1"), blocks=2, busy_s=0.2, routed=True, streams=True),
        UserRequest(0.05, "p0", ("d0", "d1"), blocks=2, busy_s=0.1, routed=True),
        UserRequest(0.12, "p0", ("d0", "d1"), blocks=1, busy_s=0.1, routed=True, streams=True),
    )
    return Plan(
        seed=1,
        producers=("p0",),
        consumers=("d0", "d1"),
        producer_workers=1,
        consumer_workers=1,
        blocks=16,
        config=(("kv_lease_duration", TERM_S), ("kv_lease_orphan_grace", 0.3), ("kv_lease_probe_interval", 0.2)),
        seats=4,
        step_s=0.02,
        turn_s=0.02,
        overlap=False,
        elsewhere=False,
        any_order=False,
        read_s=0.02,
        faults_s=0.0,
        to_the_end=False,
        requests=requests,
        faults=(),
        router=RouterPlan(policy, poll_s=0.25),
    )


def events_of(continues: bool = True) -> int:
    """Returns how many events the run has without a strike, until a moment after the last answer."""
    with silenced():
        world = _start(continues)
        world.agenda.run_until(WITHIN_S, lambda: not world.unanswered)
        world.agenda.run_until(world.agenda.now + AFTER_S)
    return world.agenda.events


def points(every: int = 1) -> Iterator[Point]:
    """Yields all points, or each one of so many: those of a router that continues streams, and of one that does not."""
    number = 0
    for continues in (True, False):
        count = events_of(continues)
        for strike in Strike:
            for target in CLIENTS if strike is Strike.LEAVES else ENGINES:
                # Points that are left out differ from one target and strike to the next.
                number += SPREAD
                yield from (Point(strike, target, event, continues) for event in range(number % every, count, every))


def shuffled_points(seed: int) -> list[Point]:
    """Returns all points in an order of chance."""
    drawn = list(points())
    stream("points", seed).shuffle(drawn)
    return drawn


def play_point(point: Point, tell: Callable[[str], None] | None = None) -> PointOutcome:
    """Play the small world's run with one strike, until nothing is left of it."""
    world = _start(point.continues, tell)
    violation: Violation | None = None
    with silenced():
        try:
            look(world)
            if point.event:
                world.agenda.run_until(WITHIN_S, lambda: world.agenda.events >= point.event)
            world.tell(f"strike: {point}")
            strike_at(world, point.strike, point.target)
            _play_on(world, point)
            _judge(world, point)
        except Violation as e:
            violation = e
        except Exception as e:  # noqa: BLE001 - whatever the code under test raises is what is looked for
            violation = Violation("error", f"{type(e).__name__}: {e}")
    counts = Counter(_said(facts) for facts in _facts(world))
    counts.update({name: n for name, n in world.counts.items() if name.startswith(("router.", "releases."))})
    return PointOutcome(point, violation, counts, tuple(world.last) if violation is not None else ())


def _start(continues: bool, tell: Callable[[str], None] | None = None) -> SimWorld:
    return SimWorld(small_plan(continues), LAST_EVENTS, tell)


def _facts(world: SimWorld) -> list[RoutedFacts]:
    assert world.failover is not None
    return world.failover.all


def _play_on(world: SimWorld, point: Point) -> None:
    end = world.agenda.now + WITHIN_S
    world.agenda.run_until(end, lambda: not world.unanswered)
    if world.unanswered:
        raise Violation("answered", f"requests {sorted(world.unanswered)} have no end")
    assert world.failover is not None
    assert world.router is not None
    world.failover.check_nothing_is_left(world.router.fleet.snapshot(world.agenda.now))
    producer = world.engines["p0"]
    within_s = FREED_S + (world.config.duration_s if (point.target[0], point.strike) in _BY_TERM else 0.0)
    end = world.agenda.now + within_s
    if not producer.running:
        return
    world.agenda.run_until(end, lambda: not producer.prefill.side.blocks.held_leases or not producer.running)
    if producer.running and (held := producer.prefill.side.blocks.held_leases):
        raise Violation("freed", f"{held} leases are held {within_s:g} s after all requests are over")


_BY_TERM = {("d", Strike.VANISHES), ("d", Strike.STOPS), ("p", Strike.PAUSES)}
"""The strikes that leave leases to their term: nobody can tell that a host that vanished does not want its leases, and
the offer of a P that was taken for dead reaches nobody."""


def _judge(world: SimWorld, point: Point) -> None:
    """Hold the run to what the small world allows."""
    gone = int(point.target[1:]) if point.strike is Strike.LEAVES else None
    for facts in _facts(world):
        if facts.number == gone:
            continue
        if facts.answer is not None and not _may_fail(point, facts):
            raise Violation("answered", f"r{facts.number} gets {facts.answer}")
        if point.target in ("p0", BOTH):
            continue
        if facts.prefills != 1 + facts.continued:
            raise Violation("computed once", f"r{facts.number} was prefilled {facts.prefills} times")
        if facts.answer is None and facts.how != "read":
            raise Violation("computed once", f"r{facts.number} was {facts.how} by its decode engine")


def _may_fail(point: Point, facts: RoutedFacts) -> bool:
    """Tells whether a request may end in an error after this strike."""
    if point.target == BOTH or point.strike is Strike.REJECTS:
        return True
    if point.target == "p0" and point.strike in (Strike.VANISHES, Strike.STOPS):
        # Reads from a host that is lost hang, at both Ds.
        return True
    return facts.began and not point.continues


def _said(facts: RoutedFacts) -> str:
    """Returns what became of a request, in words."""
    if facts.answer is not None:
        return "broken off" if facts.began else "refused"
    if not facts.how:
        return "client gone"
    if facts.continued:
        return "continued"
    if facts.how != "read":
        return "computed by D"
    if facts.prefills > 1:
        return "prefilled again"
    return "handed on" if facts.handed_on else "read at once"


@dataclass(slots=True)
class PointSweep:
    """The sum of some runs with strikes."""

    runs: int = 0
    counts: dict[tuple[str, Strike], Counter[str]] = field(default_factory=dict)
    """The requests by what became of them, for each role and strike."""
    failures: list[PointOutcome] = field(default_factory=list)

    def count(self, outcome: PointOutcome) -> None:
        self.runs += 1
        key = role_of(outcome.point.target), outcome.point.strike
        found = self.counts.setdefault(key, Counter())
        found["points"] += 1
        found += outcome.counts
        if outcome.violation is not None:
            self.failures.append(outcome)


ROLES = ("D", "P", "both Ds", "client")


def role_of(target: str) -> str:
    """Returns what was struck, by its role."""
    return "both Ds" if target == BOTH else {"p": "P", "d": "D", "r": "client"}[target[0]]


CHUNK = 20
"""The points that a process is given at a time."""


def sweep(
    chosen: Sequence[Point],
    jobs: int = 1,
    planted: str | None = None,
    watch: Callable[[PointSweep], None] = lambda _: None,
) -> PointSweep:
    """Play these points; `watch` sees the sum from time to time."""
    total = PointSweep()
    chunks = [chosen[begin : begin + CHUNK] for begin in range(0, len(chosen), CHUNK)]
    for outcomes in in_processes(_play_all, chunks, jobs, partial(plant, planted)):
        for outcome in outcomes:
            total.count(outcome)
        watch(total)
    return total


def _play_all(chosen: Sequence[Point]) -> list[PointOutcome]:
    return [play_point(point) for point in chosen]
