"""Bugs that are planted in the lessee and in the scheduler of a consumer."""

from collections.abc import Collection, Iterator
from typing import Any

from kvlease.engine.consumer import ConsumerSide
from kvlease.protocol import Endpoint, Fingerprint, LeaseCard, LeaseRef, Lessee
from kvlease.protocol.states import ProducerState
from kvlease.protocol.tracking import ProducerSession
from kvlease.protocol.watch import EngineWatch
from proof.planted.bug import Replacement, honest, planted


@planted("L2", "L3", within_runs=50, stands_for="vllm 25897, dynamo 14502: 75 s in D's queue before it reads; R8")
def tracked_from_scheduling_only() -> Iterator[Replacement]:
    """A request's lease is renewed from the step that reads it, and not while it waits for that step."""
    honest_take_on, honest_begin = honest(ConsumerSide, "take_on"), honest(ConsumerSide, "begin")

    class Postponed:
        """An agent that is told of a lease later."""

        def __init__(self, agent: Any) -> None:
            self.agent = agent
            self.waiting: dict[str, tuple[LeaseRef, Endpoint, bool]] = {}

        def __getattr__(self, name: str) -> Any:
            return getattr(self.agent, name)

        def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint, siblings: bool) -> None:
            self.waiting[holder] = (ref, endpoint, siblings)

    def take_on(self: ConsumerSide, *arguments: Any) -> bool:
        if not isinstance(self._desk, Postponed):
            self.__dict__["_desk"] = Postponed(self._desk)
        return honest_take_on(self, *arguments)

    def begin(self: ConsumerSide, request_ids: Collection[str]) -> tuple[dict[str, LeaseRef], frozenset[str]]:
        named = list(request_ids)
        agent: Any = self._desk
        if isinstance(agent, Postponed):
            for holder in named:
                if holder in agent.waiting:
                    agent.agent.track(holder, *agent.waiting.pop(holder))
        return honest_begin(self, named)

    yield ConsumerSide, "take_on", take_on
    yield ConsumerSide, "begin", begin


@planted(
    "L1", "L3", within_runs=100, stands_for="vllm 41269, 19223, 29906: aborted before D ever schedules the request"
)
def aborted_before_schedule_kept() -> Iterator[Replacement]:
    """The lease of a request that ends before it is read is renewed for ever."""
    honest_release, honest_begin = honest(ConsumerSide, "release"), honest(ConsumerSide, "begin")

    def begin(self: ConsumerSide, request_ids: Collection[str]) -> tuple[dict[str, LeaseRef], frozenset[str]]:
        named = list(request_ids)
        self.__dict__.setdefault("begun", set()).update(named)
        return honest_begin(self, named)

    def release(self: ConsumerSide, request_id: str, *more: Any) -> None:
        if request_id in self.__dict__.get("begun", ()):
            honest_release(self, request_id, *more)
        else:
            self._refs.pop(request_id, None)

    yield ConsumerSide, "release", release
    yield ConsumerSide, "begin", begin


@planted("S5", within_runs=40, stands_for="vllm 54707, 50559, 50558: a hand-off used for another prompt; R35")
def no_prompt_check() -> Iterator[Replacement]:
    """A consumer reads whatever lease a request came with, whoever's prompt was computed under it."""

    def difference(_self: ConsumerSide, _own: Fingerprint, _computed: Fingerprint) -> None:
        return None

    yield ConsumerSide, "_difference", difference


@planted("R20", within_runs=25, stands_for="R20: a LOST lease is not read at all")
def lost_lease_read_anyway() -> Iterator[Replacement]:
    """A consumer that knows its lease to be lost reads all the same."""
    original = honest(ConsumerSide, "begin")

    def begin(self: ConsumerSide, request_ids: Collection[str]) -> tuple[dict[str, LeaseRef], frozenset[str]]:
        self._desk.take_lost()
        return original(self, request_ids)

    yield ConsumerSide, "begin", begin


@planted("L2", "L3", within_runs=25, stands_for="docs/decisions/0002: verify, drop, clear, free, in this order")
def dropped_before_it_is_read() -> Iterator[Replacement]:
    """A lease is dropped in the step that begins to read it: the notice overtakes the fence."""
    original = honest(ConsumerSide, "begin")

    def begin(self: ConsumerSide, request_ids: Collection[str]) -> tuple[dict[str, LeaseRef], frozenset[str]]:
        reads, unreadable = original(self, request_ids)
        for request_id in reads:
            self._desk.untrack(request_id)
        return reads, unreadable

    yield ConsumerSide, "begin", begin


@planted("L2", within_runs=50, stands_for="vllm 43509, 38900: siblings (n > 1) free under each other; R24")
def sibling_released_for_all() -> Iterator[Replacement]:
    """The first sibling that has its data drops the lease of all."""

    def untrack(self: Lessee, holder: str, _: float) -> None:
        self._lost.discard(holder)
        key = self._lease_of.pop(holder, None)
        if key is None:
            return
        tracked = self.sessions[key[0]].leases[key[1]]
        for sibling in tracked.holders - {holder}:
            del self._lease_of[sibling]
        self._let_go(key)

    yield Lessee, "untrack", untrack


@planted("L1", "L3", within_runs=25, stands_for="vllm 43509, 38900: siblings (n > 1) that never free; R24")
def siblings_linger_for_ever() -> Iterator[Replacement]:
    """A lease that siblings held is kept for the next of them, who may never come."""
    original = honest(Lessee, "untrack")

    def untrack(self: Lessee, holder: str, now: float) -> None:
        key = self._lease_of.get(holder)
        original(self, holder, now)
        if key is not None and key in self._lingering:
            self._lingering.set(key, now + 1e6)

    yield Lessee, "untrack", untrack


@planted("L1", "L3", within_runs=50, stands_for="LMCache PD: the consumer removes, and nobody else does")
def drops_never_said() -> Iterator[Replacement]:
    """A consumer forgets what it does not want any more, and does not say so."""
    original = honest(Lessee, "_let_go")

    def let_go(self: Lessee, key: tuple[int, int]) -> None:
        original(self, key)
        self.sessions[key[0]].pending.pop(key[1], None)

    yield Lessee, "_let_go", let_go


@planted("R20", within_runs=300, stands_for="vllm 49238, 58063: a restarted producer; R22")
def restart_of_the_producer_unnoticed() -> Iterator[Replacement]:
    """A consumer that gets another incarnation's card goes on wanting the leases of the old one."""

    def lose_at(_self: Lessee, _session: ProducerSession, _endpoint: Endpoint) -> None:
        return None

    yield Lessee, "_lose_at", lose_at


@planted("R25", within_runs=500, stands_for="R25: an engine that makes no steps for too long stops renewing")
def no_stall_limit() -> Iterator[Replacement]:
    """The agent of a wedged engine renews for ever."""

    def stands_still(self: EngineWatch, now: float) -> bool:
        return not self._stepping and now - self._moved_at > self._paused_after_s

    yield EngineWatch, "stands_still", stands_still


@planted(
    "R25", within_runs=200, stands_for="vllm 41180, 58041: P's pause waits for a paused D, 119 s with a term of 6 s"
)
def pause_is_a_long_step() -> Iterator[Replacement]:
    """A paused engine renews until the stall limit, as if it were in the middle of a step."""

    def stands_still(self: EngineWatch, now: float) -> bool:
        return now - self._moved_at > self._stall_limit_s

    yield EngineWatch, "stands_still", stands_still


@planted("L2", within_runs=300, stands_for="vllm 25897, dynamo 14502: renewals that ride on steps; R15")
def long_step_is_a_pause() -> Iterator[Replacement]:
    """An engine in the middle of a step is taken for a paused one, and renews no more."""

    def stands_still(self: EngineWatch, now: float) -> bool:
        return now - self._moved_at > self._paused_after_s

    yield EngineWatch, "stands_still", stands_still


@planted(
    "L1",
    "L2",
    "L3",
    "R20",
    within_runs=100,
    stands_for="vllm 49238, 58063: a producer that was cut off is not looked for again",
)
def cut_off_producer_given_up() -> Iterator[Replacement]:
    """A consumer that has lost its producer looks for it once, and then never again."""
    original = honest(Lessee, "card_fetched")

    def card_fetched(self: Lessee, endpoint: Endpoint, card: LeaseCard | None, now: float) -> None:
        original(self, endpoint, card, now)
        if card is None:
            for session in self.sessions.values():
                if (
                    endpoint in {tracked.endpoint for tracked in session.leases.values()}
                    and session.state is ProducerState.SEEKING
                ):
                    self._timers.set(session.producer, now + 1e6)

    yield Lessee, "card_fetched", card_fetched
