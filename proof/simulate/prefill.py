"""The producer's engine: prompts are computed into blocks, blocks are leased, freed, and given to others at once."""

from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kvlease.engine.orders import LeaseOrders, WorkerReport
from kvlease.engine.producer import ProducerSide
from kvlease.engine.worker import LeaseWorker
from kvlease.fence import FenceVerifier, RegisteredWords
from proof.promises.safety import Violation
from proof.promises.watched import WatchedTable
from proof.simulate.context import Context, Owner
from proof.simulate.dataplane import SIM_ERRORS, Region, SimDataAgent
from proof.simulate.requests import Prefill

PREEMPTED = 0.02
"""The share of steps in which a running request's blocks are taken away."""


@dataclass(frozen=True, slots=True)
class StepWork:
    """The work of a step: what the workers compute, and what vLLM's own metadata says of requests."""

    writes: dict[int, int | None] = field(default_factory=dict)
    """The token of the lease that a block is written for, by block."""
    prefills: tuple[tuple[Prefill, int], ...] = ()
    """Requests of which a step is computed, and how often each was preempted until then."""
    batch: tuple[str, ...] = ()
    """Requests that got their blocks for this step, and whose blocks are to be sent (`reqs_in_batch`)."""
    dropped: tuple[str, ...] = ()
    """Requests whose blocks are not to be sent after all (`reqs_not_processed`)."""


class PrefillScheduler:
    """A producer's queue and block pool; it calls the part that leases have in it in vLLM's order."""

    def __init__(self, engine: Owner, context: Context, side: ProducerSide, workers: int) -> None:
        self.side = side
        self.workers = workers
        self._engine = engine
        self._context = context
        slots = context.config.fence_slots or context.plan.blocks
        if workers:
            side.open(slots)
            context.safety.producer_starts(engine.incarnation, workers)
        self.pool = list(range(context.plan.blocks))
        """Free blocks; the last is given out first, as vLLM does."""
        self.waiting: deque[Prefill] = deque()
        self.running: list[Prefill] = []
        self.held: dict[str, Prefill] = {}
        """Requests that are finished and leased, and whose blocks are not yet freed."""
        self._aborts: set[str] = set()
        self._batch: list[str] = []
        self._dropped: list[str] = []
        self._released: Counter[str] = Counter()
        self._slots: dict[int, int] = {}

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running or self.has_leases)

    @property
    def has_leases(self) -> bool:
        """Tells whether leases or slots are in use, for which a paused engine goes on making steps."""
        return bool(self.held or len(self.side.slots))

    def add(self, prefill: Prefill) -> None:
        self.side.take_on(prefill.request_id, prefill.prompt)
        self.waiting.append(prefill)
        self._engine.wake()

    def abort(self, request_id: str) -> None:
        self._aborts.add(request_id)
        self._engine.wake()

    # -- a step --------------------------------------------------------------------------------------------------

    def schedule(self, paused: bool) -> StepWork:
        """Give the step's requests their blocks; returns the step's work."""
        self._carry_out_aborts()
        computed: list[Prefill] = []
        if not paused:
            self._maybe_preempt()
            while self.waiting and len(self.pool) >= self.waiting[0].blocks_needed:
                self._allocate(self.waiting.popleft())
            computed = [prefill for prefill in self.running if prefill.begun < prefill.steps]
        for prefill in computed:
            prefill.begun += 1
        batch, self._batch = self._batch, []
        dropped, self._dropped = self._dropped, []
        return StepWork(
            {block: prefill.token for prefill in computed for block in prefill.blocks},
            tuple((prefill, prefill.preemptions) for prefill in computed),
            tuple(batch),
            tuple(dropped),
        )

    def _allocate(self, prefill: Prefill) -> None:
        prefill.blocks = [self.pool.pop() for _ in range(prefill.blocks_needed)]
        self._batch.append(prefill.request_id)
        self.side.prepare(prefill.request_id)
        slot = self.side.slots.of(prefill.request_id)
        if slot is not None and slot.token != prefill.token:
            prefill.token = slot.token
            self._slots[slot.index] = slot.token
            self._context.safety.prepared(self._engine.incarnation, slot.index, slot.token)
        self.running.append(prefill)

    def _carry_out_aborts(self) -> None:
        self.waiting = deque(p for p in self.waiting if not self._ends_unfinished(p, blocks=False))
        self.running = [p for p in self.running if not self._ends_unfinished(p, blocks=True)]
        self._aborts.clear()

    def _ends_unfinished(self, prefill: Prefill, blocks: bool) -> bool:
        if prefill.request_id not in self._aborts:
            return False
        self.side.abort(prefill.request_id)
        self._dropped.append(prefill.request_id)
        if blocks:
            self._free(prefill)
        self._context.tell(f"{self._engine.name} aborts {prefill.request_id}")
        return True

    def _maybe_preempt(self) -> None:
        """Now and then the scheduler takes the blocks of a running request away, and lets it begin again."""
        if self.running and self._engine.life.random() < PREEMPTED:
            prefill = self.running.pop()
            self.pool.extend(reversed(prefill.blocks))
            prefill.blocks = []
            prefill.begun = prefill.done = 0
            prefill.preemptions += 1
            self.waiting.appendleft(prefill)
            self._context.tell(f"{self._engine.name} preempts {prefill.request_id}")

    def finish(self, work: StepWork) -> None:
        """End the step's computation: what is complete is granted and answered."""
        for prefill, preemptions in work.prefills:
            if prefill not in self.running or prefill.preemptions != preemptions:
                # What was computed of a request that was preempted or aborted meanwhile is thrown away, as by vLLM.
                continue
            prefill.done += 1
            if prefill.done == prefill.steps:
                self.running.remove(prefill)
                self._answer(prefill)

    def _answer(self, prefill: Prefill) -> None:
        ref = self.side.finish(prefill.request_id, len(prefill.blocks), prefill.parent)
        offer: dict[str, Any] | None = None
        if ref is not None:
            self.held[prefill.request_id] = prefill
            self._context.observer.granted(self._engine.name, prefill, ref)
            offer = {"kv_lease": ref.to_params(), "remote_block_ids": list(prefill.blocks)}
        else:
            self._dropped.append(prefill.request_id)
            self._free(prefill)
            self._context.tell(f"{self._engine.name} offers nothing for {prefill.request_id}: no slot, or no agent")
        self._context.observer.prefilled(self._engine.name, prefill, offer)

    def hear(self, released: list[str]) -> None:
        """Take one worker's report of the requests that it has sent; what all workers have reported is freed."""
        self._notice_free_slots()
        self._released.update(released)
        for request_id in [r for r, workers in self._released.items() if workers == self.workers]:
            del self._released[request_id]
            if request_id not in self.held:
                # vLLM's scheduler asserts that it knows the request, and the engine ends.
                raise Violation("error", f"{self._engine.name} reports {request_id} as sent, which nobody sends")
            self._free(self.held.pop(request_id))

    def _notice_free_slots(self) -> None:
        used = self.side.slots.snapshot().used
        for slot, token in list(self._slots.items()):
            if used.get(slot) != token:
                del self._slots[slot]
                self._context.safety.slot_released(self._engine.incarnation, slot)

    def _free(self, prefill: Prefill) -> None:
        self.pool.extend(reversed(prefill.blocks))
        if prefill.token is not None:
            self._context.safety.freed(self._engine.incarnation, prefill.token)
        self._context.tell(f"{self._engine.name} frees blocks {prefill.blocks} of {prefill.request_id}")


class PrefillWorker:
    """One rank of a producer: its fence words, and its part of the blocks."""

    def __init__(self, engine: Owner, context: Context, rank: int) -> None:
        self.rank = rank
        self._engine = engine
        self._context = context
        data_agent = SimDataAgent(context.plane, engine.name)
        slots = context.config.fence_slots or context.plan.blocks
        table = WatchedTable(RegisteredWords(data_agent, slots), self._word_changed)
        verifier = FenceVerifier(data_agent, RegisteredWords(data_agent, 1), errors=SIM_ERRORS, clock=engine.clock)
        self.leases = LeaseWorker(table, verifier, engine.fetch_card)
        self.agent_name = f"{engine.incarnation:x}/{rank}"
        self._region = Region(engine.name, table, [None] * context.plan.blocks)
        context.plane.regions[self.agent_name] = self._region
        self._to_send: set[str] = set()
        """Requests that this worker knows of, and whose blocks it has not reported (`_reqs_to_process`)."""
        self._released: list[str] = []
        self._notices: list[str] = []

    def parts(self, orders: LeaseOrders | None, work: StepWork) -> list[Any]:
        """The parts of this worker's step, in their order; each is called at a moment of its own."""
        host = _PrefillStep(self, work)
        if orders is None:
            return [host.load]
        mine = LeaseOrders(orders.fence, {}, frozenset())
        return [partial(self.leases.do, part, mine, host) for part in self.leases.order]

    def write(self, work: StepWork) -> None:
        """Write the step's blocks, as the forward pass does, which is launched at any moment of the step."""
        for block, token in work.writes.items():
            self._region.contents[block] = token

    def load(self, work: StepWork) -> None:
        """Hear which requests' blocks are to be sent, as in vLLM's `start_load_kv`."""
        self._to_send.update(work.batch)
        self._to_send.difference_update(work.dropped)

    def let_go(self, request_id: str) -> None:
        """Report the request's blocks as sent, as `WorkerLeases.let_go` does."""
        if request_id in self._to_send:
            self._to_send.remove(request_id)
            self._released.append(request_id)

    def take_report(self) -> tuple[list[str], WorkerReport | None]:
        """The requests that this worker reports as sent, and what it tells of leases."""
        sent = [request_id for request_id in self._notices if request_id in self._to_send]
        self._notices.clear()
        self._to_send.difference_update(sent)
        self.leases.end((), sent)
        released, self._released = self._released + sent, []
        return released, self.leases.take_report()

    def heartbeat(self, request_id: str) -> None:
        """A stock consumer's heartbeat came to this worker."""
        if self.leases.hear_heartbeat(request_id):
            self._context.observer.heartbeat(self._engine.name, request_id)

    def notice(self, request_id: str) -> None:
        """A stock consumer has read from this worker."""
        self._notices.append(request_id)

    def end(self, death_shows: bool) -> None:
        self._region.alive, self._region.death_shows = False, death_shows

    def death_is_seen(self) -> None:
        self._region.death_shows = True

    def _word_changed(self, slot: int, holds: int) -> None:
        safety, producer = self._context.safety, self._engine.incarnation
        if holds:
            safety.armed(producer, self.rank, slot, holds)
        else:
            safety.cleared(producer, self.rank, slot)


@dataclass(frozen=True, slots=True)
class _PrefillStep:
    """The worker in one step (`kvlease.engine.ports.HostWorker`)."""

    worker: PrefillWorker
    work: StepWork

    def load(self) -> None:
        self.worker.load(self.work)

    def fail(self, request_id: str) -> None:
        raise AssertionError(f"{request_id}: a producer reads nothing")

    def let_go(self, request_id: str) -> None:
        self.worker.let_go(request_id)
