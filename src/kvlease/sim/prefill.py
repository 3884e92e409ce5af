"""The producer's engine: prompts are computed into blocks, blocks are leased, freed, and given to others at once."""

from collections import Counter, deque
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from kvlease.fence.ledger import FenceOrders
from kvlease.protocol import Fingerprint
from kvlease.roles.producer import ProducerSide
from kvlease.roles.words import WorkerWords
from kvlease.sim.dataplane import Region, SimDataAgent, WatchedTable

if TYPE_CHECKING:
    from kvlease.sim.engine import SimEngine


class _FinalOnly:
    """vLLM's `RequestOutputKind`, as far as it is looked at: the client gets one answer for all siblings."""

    name = "FINAL_ONLY"


class _Sampling:
    output_kind = _FinalOnly


@dataclass(slots=True, eq=False)
class Prefill:
    """A request to compute a prompt for another engine. `request_id` and `sampling_params` are as vLLM's."""

    request_id: str
    user: int
    prompt: Fingerprint
    blocks_needed: int
    steps: int
    """That its computation takes."""
    done: int = 0
    begun: int = 0
    preemptions: int = 0
    sampling_params: Any = _Sampling
    blocks: list[int] = field(default_factory=list)
    token: int | None = None
    """Of its lease; None where it has none."""


@dataclass(frozen=True, slots=True)
class Work:
    """What the workers compute in a step: block to the token that is written for."""

    writes: dict[int, int | None]
    prefills: tuple[tuple["Prefill", int], ...]
    """Requests of which a step is computed, and how often each was preempted until then."""


@dataclass(slots=True)
class WorkerReport:
    """Of one worker, at the end of a step."""

    cleared: Counter[int] = field(default_factory=Counter)
    released: list[str] = field(default_factory=list)
    heartbeats: set[str] = field(default_factory=set)


class PrefillScheduler:
    """Queue, block pool and the scheduler's hooks, in vLLM's order of calls."""

    def __init__(self, engine: "SimEngine", workers: int) -> None:
        self.workers = workers
        self._engine = engine
        self._world = engine.world
        self.side = ProducerSide(
            engine.config,
            engine.agent,
            workers,
            attrgetter("prompt"),
            draw=lambda: engine.life.getrandbits(64) | 1,
            clock=engine.clock,
        )
        slots = engine.config.fence_slots or engine.world.plan.blocks
        if workers:
            self.side.open(slots)
            self._world.safety.producer_starts(engine.incarnation, workers)
        self.pool = list(range(engine.world.plan.blocks))
        """Free blocks; the last is given out first, as vLLM does."""
        self.waiting: deque[Prefill] = deque()
        self.running: list[Prefill] = []
        self.held: dict[str, Prefill] = {}
        """Finished, leased, not yet freed."""
        self._aborts: set[str] = set()
        self._released: Counter[str] = Counter()
        self._slots: dict[int, int] = {}

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running or self.held or self.side.slots_used)

    @property
    def has_leases(self) -> bool:
        """What keeps a paused engine making steps."""
        return bool(self.held or self.side.slots_used)

    def add(self, prefill: Prefill) -> None:
        self.side.take_on(prefill)
        self.waiting.append(prefill)
        self._engine.wake()

    def abort(self, request_id: str) -> None:
        self._aborts.add(request_id)
        self._engine.wake()

    # -- a step --------------------------------------------------------------------------------------------------

    def begin_step(self) -> tuple[FenceOrders, Work]:
        self._carry_out_aborts()
        if self._engine.paused_at is not None:
            return self.side.take_orders(), Work({}, ())
        self._maybe_preempt()
        while self.waiting and len(self.pool) >= self.waiting[0].blocks_needed:
            self._schedule(self.waiting.popleft())
        computed = [prefill for prefill in self.running if prefill.begun < prefill.steps]
        for prefill in computed:
            prefill.begun += 1
        writes = {block: prefill.token for prefill in computed for block in prefill.blocks}
        return self.side.take_orders(), Work(writes, tuple((p, p.preemptions) for p in computed))

    def _schedule(self, prefill: Prefill) -> None:
        prefill.blocks = [self.pool.pop() for _ in range(prefill.blocks_needed)]
        self.side.prepare(prefill.request_id)
        ledger = self.side._ledger
        assert ledger is not None
        word = ledger.word(prefill.request_id)
        if word is not None and word.token != prefill.token:
            prefill.token = word.token
            self._slots[word.slot] = word.token
            self._world.safety.prepared(self._engine.incarnation, word.slot, word.token)
        self.running.append(prefill)

    def _carry_out_aborts(self) -> None:
        self.waiting = deque(p for p in self.waiting if not self._ends_unfinished(p, blocks=False))
        self.running = [p for p in self.running if not self._ends_unfinished(p, blocks=True)]
        self._aborts.clear()

    def _ends_unfinished(self, prefill: Prefill, blocks: bool) -> bool:
        if prefill.request_id not in self._aborts:
            return False
        self.side.take_prompt(prefill.request_id)
        if self.side.has(prefill.request_id):
            self.side.abort(prefill.request_id)
        if blocks:
            self._free(prefill)
        self._world.tell(f"{self._engine.name} aborts {prefill.request_id}")
        return True

    def _maybe_preempt(self) -> None:
        """Now and then the scheduler takes the blocks of a running request away, and lets it begin again."""
        if self.running and self._engine.life.random() < 0.02:
            prefill = self.running.pop()
            self.pool.extend(reversed(prefill.blocks))
            prefill.blocks = []
            prefill.begun = prefill.done = 0
            prefill.preemptions += 1
            self.waiting.appendleft(prefill)
            self._world.tell(f"{self._engine.name} preempts {prefill.request_id}")

    def end_step(self, work: Work, reports: list[WorkerReport]) -> None:
        for prefill, preemptions in work.prefills:
            if prefill not in self.running or prefill.preemptions != preemptions:
                # What was computed of a request that was preempted or aborted meanwhile is thrown away, as by vLLM.
                continue
            prefill.done += 1
            if prefill.done == prefill.steps:
                self.running.remove(prefill)
                self._finish(prefill)
        if self.workers:
            self._hear(reports)

    def _finish(self, prefill: Prefill) -> None:
        params, prompt = None, self.side.take_prompt(prefill.request_id)
        if prompt is not None and self.side.has(prefill.request_id):
            ref = self.side.grant(prefill, prompt, (prefill.blocks,))
            params = ref.to_params()
            self.held[prefill.request_id] = prefill
            self._world.granted(self._engine, prefill, ref)
        else:
            self._free(prefill)
            self._world.tell(f"{self._engine.name} offers nothing for {prefill.request_id}: no slot, or no agent")
        offer = None if params is None else {"kv_lease": params, "remote_block_ids": list(prefill.blocks)}
        self._world.users.prefilled(self._engine, prefill, offer)

    def _hear(self, reports: list[WorkerReport]) -> None:
        for report in reports:
            # vLLM adds the reports of all workers up before it hands them over; one by one is the same.
            self.side.hear_cleared(report.cleared)
            self.side.hear_heartbeats(sorted(report.heartbeats))
            self._released.update(report.released)
        self._notice_free_slots()
        for request_id in [r for r, workers in self._released.items() if workers == self.workers]:
            del self._released[request_id]
            if (prefill := self.held.pop(request_id, None)) is not None:
                self._free(prefill)

    def _notice_free_slots(self) -> None:
        ledger = self.side._ledger
        assert ledger is not None
        for slot, token in list(self._slots.items()):
            word = ledger._by_slot.get(slot)
            if word is None or word.token != token:
                del self._slots[slot]
                self._world.safety.slot_released(self._engine.incarnation, slot)

    def _free(self, prefill: Prefill) -> None:
        self.pool.extend(reversed(prefill.blocks))
        if prefill.token is not None:
            self._world.safety.freed(self._engine.incarnation, prefill.token)
        self._world.tell(f"{self._engine.name} frees blocks {prefill.blocks} of {prefill.request_id}")


class PrefillWorker:
    """One rank of a producer: its fence words, and its part of the blocks."""

    def __init__(self, engine: "SimEngine", rank: int) -> None:
        self.rank = rank
        self._engine = engine
        world = engine.world
        slots = engine.config.fence_slots or world.plan.blocks
        self.table = WatchedTable(SimDataAgent(world.plane, engine.name), slots, self._word_changed)
        self.words = WorkerWords(self.table)
        self.agent_name = f"{engine.incarnation:x}/{rank}"
        self._region = Region(engine.name, self.table, [None] * world.plan.blocks)
        world.plane.regions[self.agent_name] = self._region
        self._released: list[str] = []
        self._notices: list[str] = []
        self._heartbeats: set[str] = set()

    def begin(self, orders: FenceOrders, work: Work) -> None:
        """As `LeasedWorker.start_load_kv`, and the forward pass after it."""
        self.words.arm(orders)
        for word in orders.clear:
            if self.words.clear(word.slot):
                self._released.append(word.request_id)
        for block, token in work.writes.items():
            self._region.contents[block] = token

    def take_report(self) -> WorkerReport:
        for request_id in self._notices:
            # As `LeasedWorker.get_transfer_results`: the word goes before the report that frees the blocks.
            if self.words.clear_request(request_id):
                self._released.append(request_id)
        self._notices.clear()
        released, self._released = self._released, []
        heartbeats, self._heartbeats = self._heartbeats, set()
        return WorkerReport(self.words.take_cleared(), released, heartbeats)

    def heartbeat(self, request_id: str) -> None:
        """Of a stock consumer, as `LeasedWorker._handle_heartbeat`."""
        if request_id in self.words:
            self._heartbeats.add(request_id)
            self._engine.world.facts.heartbeat(self._engine, request_id)

    def notice(self, request_id: str) -> None:
        """A stock consumer has read from this worker."""
        self._notices.append(request_id)

    def end(self, death_shows: bool) -> None:
        self._region.alive, self._region.death_shows = False, death_shows

    def death_is_seen(self) -> None:
        self._region.death_shows = True

    def _word_changed(self, slot: int, holds: int) -> None:
        safety, producer = self._engine.world.safety, self._engine.incarnation
        if holds:
            safety.armed(producer, self.rank, slot, holds)
        else:
            safety.cleared(producer, self.rank, slot)
