"""A producer's engine in the explored world: a scheduler, workers that carry out each step on their own, few blocks.

A step is a barrier at its end only, as with vLLM: it reaches each worker at a moment of its own, its parts are carried
out in their order and its forward pass at any moment beside them, and the scheduler hears of it when all are through.
A request takes its blocks from the pool when it is scheduled, and lets go of them when it has ended; a lease on them
holds them for itself.
"""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.orders import LeaseOrders, WorkerReport
from kvlease.engine.own_fences import OrderedFences, SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.engine.scheduler import LeaseScheduler
from kvlease.engine.worker import LeaseWorker, StepPart
from kvlease.protocol import Cause
from kvlease.protocol.effects import Lapse, LeaseNews
from kvlease.testing.clock import ManualClock
from kvlease.testing.desk import ListedDesk
from proof.explore.fences import Draw, WatchedSlots, Worker, WorkerStep
from proof.explore.pool import ExploredPool
from proof.explore.scale import CONFIG, Bounds, prompt
from proof.promises.safety import Violation

Fact = tuple[Any, ...]
ALIKE = 0x70
"""The content of a block that all prompts begin with, where they do (`Bounds.alike`)."""

_EVENTS = {"late_claims.in_time": "revived in time", "late_claims.too_late": "revived too late"}
"""The counts of a producer's side that are events of the world."""


@dataclass(slots=True)
class Step:
    """A step under way."""

    orders: LeaseOrders | None
    prefill: str | None
    parts: tuple[StepPart, ...]
    """The parts that each worker carries out, in this order; none where the scheduler orders nothing."""
    done: list[int]
    """The number of parts that each worker has carried out."""
    wrote: set[int] = field(default_factory=set)
    """Workers that have written the prefill's blocks."""
    cleared: Counter[int] = field(default_factory=Counter)

    def is_over(self, worker: int) -> bool:
        """Tells whether this worker is through with the step."""
        return self.done[worker] == len(self.parts) and (self.prefill is None or worker in self.wrote)


class ProducerEngine:
    """The engine of the producer. An input is a tuple that begins with the name of a method here."""

    def __init__(self, incarnation: int, bounds: Bounds, drawn: int, now: float) -> None:
        self.clock = ManualClock(now)
        self.facts: list[Fact] = []
        self.events: list[str] = []
        self.desk = ListedDesk(incarnation)
        self.pool = ExploredPool(bounds.blocks)
        draw = Draw(drawn)
        self.side = ProducerSide(CONFIG, self.desk, self.pool, bounds.workers, draw=draw, clock=self.clock)
        self.workers = [Worker(bounds.slots, bounds.blocks, partial(self._word_fact, w)) for w in range(bounds.workers)]
        tables = [worker.table for worker in self.workers]
        self.side.open(bounds.slots, OrderedFences(bounds.workers) if bounds.by_order else SharedFences(tables))
        self.side.slots = WatchedSlots(bounds.slots, draw, self._fact)
        self.leases = LeaseScheduler(self.desk, self.side, ConsumerSide(self.desk))
        self.blocks_of: dict[str, tuple[int, ...]] = {}
        """The blocks of the request that is computed."""
        self.token_of: dict[str, int] = {}
        self.alike: int | None = None
        """The block that prompts begin with, while the cache has it."""
        self.begin_alike = bounds.alike
        """The number of prompts that begin with that block."""
        self.step: Step | None = None

    # -- inputs --------------------------------------------------------------------------------------------------

    def hear(self, news: tuple[LeaseNews, ...]) -> tuple[Any, ...]:
        """The scheduler takes the agent's news between two steps."""
        self.desk.news = list(news)
        self.side.hear_news()
        if self.side.fences.at_once:
            self._check_ends(
                {lapse.token for lapse in news if isinstance(lapse, Lapse) and lapse.cause is Cause.REVOKED}
            )
        return self._outcome()

    def _check_ends(self, revoked: Set[int]) -> None:
        """Check that what was revoked, and nothing else, ends as soon as it is heard."""
        ended = {said[1] for said in self.desk.said if said[0] == "cleared"}
        if early := sorted(ended - revoked):
            raise Violation("L2", f"{early[0]:016x} is over and has ended, though nobody needs its blocks")
        if late := sorted(token for token in revoked if token in self.side.blocks):
            raise Violation("S2", f"{late[0]:016x} is revoked, and can still be read")

    def schedule(
        self, news: tuple[LeaseNews, ...], request_id: str | None, size: int, backwards: bool = False
    ) -> tuple[Any, ...]:
        """A step begins, with a prefill of `size` blocks or none. The news come when the prefill has its blocks.

        `backwards`: the pool gives away first what it would give away last.
        """
        assert self.step is None
        if request_id is not None:
            if backwards:
                self.pool.reverse()
            self.side.take_on(request_id, prompt(_number(request_id)))
            self._allocate(request_id, size)
        self.desk.news = list(news)
        orders = self.leases.begin_step(())
        parts = () if orders is None else LeaseWorker.order
        self.step = Step(orders, request_id, parts, [0 for _ in self.workers])
        return self._outcome()

    def part(self, number: int) -> tuple[Any, ...]:
        """A worker carries out the next part of its step; the last of them ends with its report."""
        step, worker = self._step(), self.workers[number]
        assert step.orders is not None
        worker.leases.do(step.parts[step.done[number]], step.orders, WorkerStep())
        step.done[number] += 1
        report = worker.leases.take_report() if step.done[number] == len(step.parts) else None
        if report is not None:
            step.cleared.update(report.cleared)
        return self._outcome()

    def write(self, number: int) -> tuple[Any, ...]:
        """A worker's forward pass writes the prefill's blocks, but for one that the cache had."""
        step = self._step()
        assert step.prefill is not None
        contents, own = self.workers[number].contents, self.token_of.get(step.prefill, 0)
        for place, block in enumerate(self.blocks_of[step.prefill]):
            contents[block] = ALIKE if not place and self._begins_alike(step.prefill) else own
        step.wrote.add(number)
        return self._outcome()

    def finish(self, aborted: bool) -> tuple[Any, ...]:
        """All workers are through: the scheduler hears them, and offers the prefill unless it was aborted."""
        step = self._step()
        assert all(step.is_over(worker) for worker in range(len(self.workers)))
        self.step = None
        self.leases.hear((), WorkerReport(step.cleared))
        return self._outcome(None if step.prefill is None else self._conclude(step.prefill, aborted))

    def reset(self) -> tuple[Any, ...]:
        """The engine resets its cache, as for new weights: nothing that it has computed must be used any more."""
        blocks = [block for block in range(len(self.workers[0].contents)) if self.side.blocks.of(block)]
        self.side.reset()
        if self.side.fences.at_once:
            for block in blocks:
                self._fact("given", block)
        self.alike = None
        return self._outcome()

    def fill(self) -> tuple[Any, ...]:
        """Others are given every free block, and let go of them again."""
        self.pool.give_back(self._take(self.pool.free))
        return self._outcome()

    # -- how it is done ------------------------------------------------------------------------------------------

    def _step(self) -> Step:
        assert self.step is not None
        return self.step

    def _begins_alike(self, request_id: str) -> bool:
        return _number(request_id) < self.begin_alike

    def _allocate(self, request_id: str, size: int) -> None:
        hit = [self.alike] if self.alike is not None and self._begins_alike(request_id) else []
        if any(self.side.blocks.of(block) for block in hit):
            self.events.append("a leased block shared")
        self.pool.hold(hit)
        self.blocks_of[request_id] = (*hit, *self._take(size - len(hit)))
        lapsed = self.side.blocks.lapsed_leases
        self.side.prepare(request_id)
        if self.side.blocks.lapsed_leases < lapsed:
            self.events.append("a lapsed lease's slot taken")
        if (slot := self.side.slots.of(request_id)) is not None:
            self.token_of[request_id] = slot.token

    def _take(self, number: int) -> Sequence[int]:
        holders = {block: self._holder(block) for block in self.pool.queue}
        lapsed = self.side.blocks.lapsed_leases
        taken = self.pool.take(number)
        if self.side.blocks.lapsed_leases < lapsed:
            self.events.append("a lapsed block given")
        for block in taken:
            if (token := holders[block]) is not None:
                raise Violation("L2", f"block {block} is given away while {token:016x} holds it")
            if block == self.alike:
                self.alike = None
            self._fact("given", block)
        return taken

    def _holder(self, block: int) -> int | None:
        return next((token for token in self.side.blocks.of(block) if self.side.blocks.holds(token)), None)

    def _conclude(self, request_id: str, aborted: bool) -> Any:
        """Returns what the router gets: (reference, blocks), or None where nothing is offered."""
        blocks = self.blocks_of.pop(request_id)
        self.token_of.pop(request_id, None)
        if self._begins_alike(request_id):
            self.alike = blocks[0]
            self.pool.cache((self.alike,))
        if aborted:
            self.side.abort(request_id)
            ref = None
        else:
            ref = self.side.finish(request_id, blocks)
        # The request is over for the engine, whatever its lease does.
        self.pool.give_back(blocks)
        if ref is None:
            return None
        self._fact("granted", ref.token, blocks)
        return ref, blocks

    def _fact(self, name: str, *arguments: object) -> None:
        self.facts.append((name, self.desk.incarnation, *arguments))

    def _word_fact(self, worker: int, slot: int, token: int) -> None:
        if token:
            self._fact("armed", worker, slot, token)
        else:
            self._fact("cleared", worker, slot)

    def _outcome(self, offer: Any = None) -> tuple[Any, ...]:
        """Returns (facts, what the agent is told, what is offered, further events)."""
        # Workers of this engine serve no stock consumers.
        self.side.take_retired()
        facts, self.facts = self.facts, []
        said, self.desk.said = self.desk.said, []
        events, self.events = [*self.events, *(_EVENTS[name] for name in _EVENTS if name in self.side.counts)], []
        self.side.counts.clear()
        return tuple(facts), tuple(said), offer, tuple(events)


def _number(request_id: str) -> int:
    return int(request_id.removeprefix("prefill-"))
