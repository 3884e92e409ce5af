"""The plan of a run: the engines, what users ask, and what goes wrong when; all of it drawn from one seed.

Each run draws which kinds of fault it has at all, and how many: runs with everything at once hide what runs with two
kinds find (swarm testing, Groce et al. 2012). A plan can be cut down to some of its faults and requests, by their
numbers, and is still a plan: that is how a failure is shrunk, and how it is named.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TypeVar

from kvlease.simulation.chance import Stream, stream
from proof.simulate.kinds import FaultKind, PlannedFault
from proof.simulate.routed_plan import RouterPlan, draw_refusals, draw_router

T = TypeVar("T")

ELSEWHERE = 0.25
"""The share of runs in which an engine's workers are on other hosts than its scheduler."""
ANY_ORDER = 0.25
"""The share of runs in which producers reuse blocks in any order."""
ALIKE = 0.4
"""The share of requests whose prompts begin like others."""
REPEATED = 0.2
"""The share of requests whose reference a router sends to another consumer when the first has read or refused it."""
MIXED_UP = 0.05
"""The share of requests that a router gives another's reference."""
ROUTED = 0.8
"""The share of requests that kvlease's router has, in runs with it, of those that it may have."""
PAUSE_S = 35.0
"""A little longer than an idle session is kept."""


@dataclass(frozen=True, slots=True)
class UserRequest:
    """A user asks for an answer; the router has P prefill the prompt, and D decode it."""

    at_s: float
    producer: str
    consumers: tuple[str, ...]
    """The router's first choice, and the one that it asks again, with the same reference, after `patience_s`."""
    blocks: int
    """Blocks of the prompt's KV cache."""
    think_s: float = 0.0
    """The time for which the router keeps the reference before it passes it on."""
    patience_s: float = 0.0
    abort_s: float | None = None
    """The time from the request's beginning to the client's going away; None: it stays."""
    siblings: int = 1
    """The number of answers of one prompt (n)."""
    repeated: bool = False
    """The router uses the reference once more after the answer."""
    lost: bool = False
    """The router dies with the reference: nobody decodes."""
    mangled: bool = False
    """The reference arrives at D as something else."""
    mixed_up: bool = False
    """The router hands D the reference of another user's prompt."""
    busy_s: float = 0.0
    """The time for which the decode occupies its seat at D; with a stock D, the time that it waits before it reads."""
    prefill_steps: int = 1
    alike: int = 0
    """The kind of its prompt: those of one kind begin alike; 0: no other prompt begins like it."""
    shared: int = 0
    """The number of blocks that its prompt has in common with others of its kind."""
    stock: bool = False
    """D runs stock vLLM: it renews with heartbeats, and tells each of P's workers when it has read."""
    routed: bool = False
    """kvlease's router has it (`Plan.router`): that chooses P and D among all, and the fields above on what routers do
    mean nothing."""
    streams: bool = False
    """A routed request's answer is a stream."""

    @property
    def is_others(self) -> bool:
        """True for what only routers of others do, and for what is counted by the engines of others."""
        return self.lost or self.mangled or self.mixed_up or self.stock or self.repeated or self.siblings > 1


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run. Times in seconds; `config` is what an operator writes into `kv_connector_extra_config`."""

    seed: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    producer_workers: int
    consumer_workers: int
    """A multiple or a divisor of `producer_workers`."""
    blocks: int
    """Blocks of a producer's KV cache: few, so that they are soon given to somebody else."""
    config: tuple[tuple[str, float], ...]
    seats: int
    """Requests that a consumer decodes at the same time; the rest waits in its queue."""
    step_s: float
    turn_s: float
    """The longest time from one turn of an agent to the next when all is well."""
    overlap: bool
    """True where the scheduler begins a step while the workers are at the one before, as vLLM's does by default."""
    elsewhere: bool
    """True where workers are on other hosts than their scheduler, and write the fence's words by order."""
    any_order: bool
    """True where producers reuse blocks in any order, not in vLLM's."""
    read_s: float
    """The longest time that a read takes when all is well."""
    faults_s: float
    """The time at which the faults are over, and the second phase begins."""
    to_the_end: bool
    """True where the run goes on until idle sessions have ended too, a minute and a half later; most do not."""
    requests: tuple[UserRequest, ...]
    faults: tuple[PlannedFault, ...]
    router: RouterPlan | None = None
    """The part that kvlease's router has; None: it has no requests in this run."""
    kept_requests: tuple[int, ...] | None = None
    """Numbers of what is left of a plan that was cut down; None: all."""
    kept_faults: tuple[int, ...] | None = None

    def keeping(self, requests: Collection[int] | None = None, faults: Collection[int] | None = None) -> "Plan":
        """The same plan with these requests and faults only, by their numbers in the whole plan; None keeps all.

        To be called on a whole plan. Raises `ValueError` for a number that is none.
        """
        assert (self.kept_requests, self.kept_faults) == (None, None), "this plan was cut down already"
        return replace(
            self,
            requests=_kept("request", self.requests, requests),
            faults=_kept("fault", self.faults, faults),
            kept_requests=None if requests is None else tuple(sorted(requests)),
            kept_faults=None if faults is None else tuple(sorted(faults)),
        )


def _kept(what: str, of: tuple[T, ...], numbers: Collection[int] | None) -> tuple[T, ...]:
    if numbers is None:
        return of
    for number in numbers:
        if not 0 <= number < len(of):
            raise ValueError(f"there is no {what} {number} in this plan: it has those from 0 to {len(of) - 1}")
    return tuple(of[number] for number in sorted(numbers))


def draw_plan(seed: int, *, routed: bool = True) -> Plan:
    """The plan of this seed; without `routed`, what it is where kvlease's router has no request."""
    draw = stream("plan", seed)
    producers = tuple(f"p{i}" for i in range(draw.choice((1, 1, 2, 3))))
    consumers = tuple(f"d{i}" for i in range(draw.choice((1, 2, 2, 3, 5))))
    if draw.random() < 0.15:
        # An engine that is both; its agent is lessor and lessee at once.
        consumers += producers[:1]
    workers, readers = draw.choice(((1, 1), (2, 2), (2, 1), (1, 2), (4, 2)))
    faults_s = draw.uniform(6.0, 30.0)
    # Consumers with one seat that is taken: leases wait in the queue for many terms.
    full = draw.random() < 0.35
    plan = Plan(
        seed=seed,
        producers=producers,
        consumers=consumers,
        producer_workers=workers,
        consumer_workers=readers,
        blocks=draw.randint(4, 16),
        config=_draw_config(draw),
        seats=1 if full else draw.randint(1, 4),
        step_s=draw.choice((0.02, 0.05, 0.2)),
        turn_s=draw.choice((0.02, 0.05, 0.08, 0.08)),
        overlap=draw.random() < 0.5,
        elsewhere=stream("elsewhere", seed).random() < ELSEWHERE,
        any_order=stream("order", seed).random() < ANY_ORDER,
        read_s=draw.choice((0.001, 0.001, 0.05, 0.5, 2.0)),
        faults_s=faults_s,
        to_the_end=draw.random() < 0.2,
        requests=(),
        faults=(),
    )
    requests = [_draw_request(draw, plan) for _ in range(draw.randint(2, 15 if full else 40))]
    # A stream of its own leaves everything else that the seed draws as it was.
    mixed = stream("mixed up", seed)
    requests = [replace(request, mixed_up=mixed.random() < MIXED_UP) for request in requests]
    alike = stream("alike", seed)
    requests = [_draw_beginning(alike, request) for request in requests]
    faults = _draw_faults(draw, plan) + _draw_pauses(stream("pauses", seed), plan)
    faults += _draw_resets(stream("resets", seed), plan)
    faults += _draw_revocations(stream("revocations", seed), plan)
    if draw.random() < 0.1:
        # A long pause in the middle, in which idle sessions end.
        requests = [replace(r, at_s=_later(r.at_s, faults_s / 2)) for r in requests]
        faults = [replace(f, at_s=_later(f.at_s, faults_s / 2)) for f in faults]
        plan = replace(plan, faults_s=faults_s + PAUSE_S)
    requests, router = _draw_routed(stream("routed", seed), requests, plan) if routed else (requests, None)
    if router is not None:
        faults += draw_refusals(stream("refusals", seed), (*plan.producers, *plan.consumers), faults_s)
        plan = replace(plan, router=replace(router, returns=stream("returns", seed).random() < 0.8))
    by_time = attrgetter("at_s")
    return replace(plan, requests=tuple(sorted(requests, key=by_time)), faults=tuple(sorted(faults, key=by_time)))


def _draw_beginning(draw: Stream, request: UserRequest) -> UserRequest:
    """The beginning of a request's prompt, and what a router does with its reference once it has an answer."""
    return replace(
        request,
        alike=draw.randint(1, 2) if draw.random() < ALIKE else 0,
        shared=draw.randint(1, request.blocks),
        repeated=request.repeated or draw.random() < REPEATED,
    )


def _draw_routed(draw: Stream, requests: list[UserRequest], plan: Plan) -> tuple[list[UserRequest], RouterPlan | None]:
    """Some of the requests that no bad router has, in half of the runs: kvlease's own router has them."""
    if draw.random() < 0.5:
        return requests, None
    router = draw_router(draw, plan.producers, plan.consumers)
    drawn = [
        replace(request, routed=routed and not request.is_others, streams=streams)
        for request in requests
        for routed, streams in [(draw.random() < ROUTED, draw.random() < 0.7)]
    ]
    return drawn, router


def _later(at_s: float, pause_s: float) -> float:
    return at_s if at_s < pause_s else at_s + PAUSE_S


def _draw_config(draw: Stream) -> tuple[tuple[str, float], ...]:
    duration_s = draw.choice((1.0, 2.0, 4.0, 8.0))
    config = {"kv_lease_duration": duration_s, "kv_lease_orphan_grace": draw.choice((0.0, 0.3, 1.0, duration_s))}
    if draw.random() < 0.4:
        config["kv_lease_max_age"] = duration_s * draw.choice((1.0, 2.0, 4.0))
    if draw.random() < 0.3:
        config["kv_lease_stall_limit"] = draw.choice((1.0, 4.0))
    if draw.random() < 0.3:
        config["kv_lease_fence_slots"] = draw.randint(1, 4)
    return tuple(config.items())


def _draw_request(draw: Stream, plan: Plan) -> UserRequest:
    consumers = draw.sample(plan.consumers, min(len(plan.consumers), 2))
    duration_s = dict(plan.config)["kv_lease_duration"]

    def sometimes(share: float, value: float) -> float:
        return value if draw.random() < share else 0.0

    return UserRequest(
        at_s=draw.uniform(0.0, plan.faults_s * 0.9),
        producer=draw.choice(plan.producers),
        consumers=tuple(consumers),
        blocks=draw.randint(1, min(4, plan.blocks // 2)),
        think_s=sometimes(0.3, draw.uniform(0.0, 1.5 * duration_s)),
        patience_s=sometimes(0.2, draw.uniform(0.05, 4.0)),
        abort_s=sometimes(0.15, draw.uniform(0.0, 6.0)) or None,
        siblings=draw.choice((2, 3)) if draw.random() < 0.1 else 1,
        repeated=draw.random() < 0.1,
        lost=draw.random() < 0.05,
        mangled=draw.random() < 0.05,
        busy_s=sometimes(0.6, draw.uniform(0.0, 4.0 * duration_s if plan.seats == 1 else 6.0)),
        prefill_steps=draw.randint(1, 2) if draw.random() < 0.8 else draw.randint(3, 8),
        stock=draw.random() < 0.05,
    )


# The shortest and the longest time that a fault of each kind lasts; below, the values that its amount is drawn from.
_LENGTHS_S: dict[FaultKind, tuple[float, float]] = {
    FaultKind.LONG_STEP: (0.5, 30.0),
    FaultKind.CRASH: (0.2, 8.0),
    FaultKind.RESTART: (0.2, 8.0),
    FaultKind.CLOCK: (1.0, 30.0),
}
_LONGEST_CUT_S = 20.0
"""Longer than a verifier waits for a fence."""
_AMOUNTS: dict[FaultKind, tuple[float, ...]] = {
    FaultKind.LOSS: (0.05, 0.3, 0.7, 1.0),
    FaultKind.REPEAT: (0.1, 0.5, 1.0),
    FaultKind.DELAY: (0.01, 0.1, 0.5),
    FaultKind.CRASH: (0, 0, 1),
    FaultKind.SLOW_LOOP: (0.15, 0.5, 2.0),
    FaultKind.CLOCK: (-0.01, 0.01),
    FaultKind.ECHO: (0.0, 0.02, 0.1, 0.4, 0.9),
    FaultKind.SLOW_READ: (0.05, 0.5, 3.0, 8.0, 15.0),
    FaultKind.READ_ERROR: (0.05, 0.3, 1.0),
}
_LINKS = frozenset(
    {
        FaultKind.LOSS,
        FaultKind.REPEAT,
        FaultKind.DELAY,
        FaultKind.CLOG,
        FaultKind.CUT,
        FaultKind.PARTITION,
        FaultKind.FALSE_DEATH,
        FaultKind.ECHO,
        FaultKind.MALFORMED,
    }
)
_DRAWN_APART = frozenset(
    {FaultKind.PAUSE, FaultKind.RESET, FaultKind.REVOKE, FaultKind.BUSY, FaultKind.ERROR, FaultKind.DRAIN}
)
_RARE = frozenset({FaultKind.AGENT_DEATH})


def _draw_faults(draw: Stream, plan: Plan) -> list[PlannedFault]:
    kinds = [
        kind for kind in FaultKind if kind not in _DRAWN_APART and draw.random() < (0.05 if kind in _RARE else 0.3)
    ]
    if not kinds:
        return []
    faults = [_draw_fault(draw, plan, draw.choice(kinds)) for _ in range(draw.randint(1, 16))]
    return faults + _draw_wedged(draw, plan)


def _draw_pauses(draw: Stream, plan: Plan) -> list[PlannedFault]:
    """The pauses; `draw` is a stream of their own, which leaves everything else that the seed draws as it was."""
    if draw.random() < 0.7:
        return []
    longest_s = 3 * dict(plan.config)["kv_lease_duration"]
    return [
        PlannedFault(
            FaultKind.PAUSE, draw.uniform(0.0, plan.faults_s), draw.uniform(0.1, longest_s), draw.choice(plan.consumers)
        )
        for _ in range(draw.randint(1, 3))
    ]


def _draw_resets(draw: Stream, plan: Plan) -> list[PlannedFault]:
    if draw.random() < 0.8:
        return []
    return [
        PlannedFault(FaultKind.RESET, draw.uniform(0.0, plan.faults_s), 0.0, draw.choice(plan.producers))
        for _ in range(draw.randint(1, 2))
    ]


def _draw_revocations(draw: Stream, plan: Plan) -> list[PlannedFault]:
    if draw.random() < 0.8:
        return []
    return [
        PlannedFault(
            FaultKind.REVOKE, draw.uniform(0.0, plan.faults_s), 0.0, draw.choice(plan.producers), "", draw.random()
        )
        for _ in range(draw.randint(1, 8))
    ]


def _draw_wedged(draw: Stream, plan: Plan) -> list[PlannedFault]:
    """A step that is longer than the stall limit and a term, in half of the plans that set a stall limit."""
    config = dict(plan.config)
    if "kv_lease_stall_limit" not in config or draw.random() < 0.5:
        return []
    length_s = (config["kv_lease_stall_limit"] + config["kv_lease_duration"]) * draw.uniform(1.5, 3.0)
    at_s = draw.uniform(0.0, plan.faults_s)
    return [PlannedFault(FaultKind.LONG_STEP, at_s, length_s, draw.choice(plan.consumers))]


def _draw_fault(draw: Stream, plan: Plan, kind: FaultKind) -> PlannedFault:
    cuts = kind in (FaultKind.CUT, FaultKind.PARTITION)
    shortest, longest = _LENGTHS_S.get(kind, (0.1, _LONGEST_CUT_S if cuts else 8.0))
    at_s = draw.uniform(0.0, plan.faults_s)
    engine, other = draw.choice(plan.producers), draw.choice(plan.consumers)
    if draw.random() < 0.6:
        engine, other = other, engine
    if engine == other:
        other = next((name for name in (*plan.consumers, *plan.producers) if name != engine), engine)
    # Most are short; the square of an even draw has a median of a quarter.
    length_s = shortest + (longest - shortest) * draw.random() ** 2
    if draw.random() < 0.5 and kind not in _LENGTHS_S:
        # A length around an extension: just too long for a session, or just not.
        length_s = draw.uniform(0.2, 3.0) * dict(plan.config)["kv_lease_duration"]
    length_s = min(length_s, max(plan.faults_s - at_s, shortest))
    amount = draw.choice(_AMOUNTS.get(kind, (0.0,)))
    return PlannedFault(kind, at_s, length_s, engine, other if kind in _LINKS else "", amount)
