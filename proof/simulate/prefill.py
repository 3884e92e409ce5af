"""The producer's scheduler: prompts are computed into blocks, which are leased, freed, and given to others at once."""

from collections import Counter, deque
from typing import Any

from kvlease.engine.own_fences import OrderedFences, SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.fence import FenceTable
from kvlease.fence.slots import Slot
from proof.promises.safety import Violation
from proof.simulate.context import Context, Owner
from proof.simulate.fences import ToldFences
from proof.simulate.pool import NULL, SimPool
from proof.simulate.requests import Prefill, StepWork

PREEMPTED = 0.02
"""The share of steps in which a running request's blocks are taken away."""


class PrefillScheduler:
    """A producer's queue and block pool; it calls the part that leases have in it in vLLM's order."""

    def __init__(self, engine: Owner, context: Context, side: ProducerSide, pool: SimPool) -> None:
        self.side = side
        self.pool = pool
        self.waiting: deque[Prefill] = deque()
        self.running: list[Prefill] = []
        self.offered: dict[int, tuple[int, ...]] = {}
        """The blocks of the leases that were granted and have not ended, by token."""
        self._engine = engine
        self._context = context
        self._fences: ToldFences | None = None
        self._aborts: set[str] = set()
        self._slots: dict[int, int] = {}
        self._weights = 0
        """The number of times that the cache was reset, as for new weights: they compute something else."""

    def open(self, tables: list[FenceTable]) -> None:
        """The workers have their fence tables."""
        if not tables:
            return
        fences = OrderedFences(len(tables)) if self._context.plan.elsewhere else SharedFences(tables)
        self._fences = ToldFences(fences, self._prepared)
        self.side.open(tables[0].address.slots, self._fences)
        self._context.safety.producer_starts(self._engine.incarnation, len(tables))

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

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
            while self.waiting and self._allocate(self.waiting[0]):
                self.running.append(self.waiting.popleft())
            computed = [prefill for prefill in self.running if prefill.begun < prefill.steps]
        for prefill in computed:
            prefill.begun += 1
            if prefill.begun == prefill.steps:
                # As vLLM does, before it is computed: who shares it reads it in a later step.
                self.pool.remember(prefill.blocks, prefill.labels)
        return StepWork(
            {block: label for prefill in computed for block, label in prefill.own},
            tuple((prefill, prefill.preemptions) for prefill in computed),
        )

    def hear_news(self) -> None:
        """Ask for blocks that nobody holds any more, as the connector does before each allocation."""
        self.side.hear_news()
        for token in self._take_cleared():
            if not self._context.observer.ends_at_once(token):
                raise Violation("L2", f"{token:016x} cannot be read any more, and nobody needed its blocks")

    def _allocate(self, prefill: Prefill) -> bool:
        """Give a request its blocks, if there are enough: those that begin alike are shared."""
        self.hear_news()
        labels = tuple(label + (self._weights << 56) for label in prefill.prompt_labels)
        # vLLM computes the last token of a prompt in any case.
        hits = self.pool.find(labels)[: len(labels) - 1]
        more = len(labels) - len(hits)
        if more + sum(not self.pool.references[block] for block in hits) > self.pool.free:
            return False
        self.pool.hold(hits)
        prefill.labels, prefill.hits = labels, len(hits)
        prefill.blocks = hits + self.pool.take(more)
        for token in self._take_cleared():
            if not self._context.safety.leases[token].given:
                raise Violation("L2", f"{token:016x} cannot be read any more, and its blocks were not needed")
        self._prepare(prefill)
        return True

    def _prepare(self, prefill: Prefill) -> None:
        full = self.side.slots.full
        self.side.prepare(prefill.request_id)
        if self._take_cleared() and not full:
            raise Violation("L2", f"a lease has lost its slot to {prefill.request_id}, and there were others")
        slot = self.side.slots.of(prefill.request_id)
        if slot is not None:
            prefill.token = slot.token

    def _prepared(self, slot: Slot) -> None:
        """A slot was taken, and its word is about to be armed."""
        self.notice_free_slots()
        if slot.index in self._slots:
            self._context.safety.slot_released(self._engine.incarnation, slot.index)
        self._slots[slot.index] = slot.token
        self._context.safety.prepared(self._engine.incarnation, slot.index, slot.token)

    def notice_free_slots(self) -> None:
        used = self.side.slots.snapshot().used
        for slot, token in list(self._slots.items()):
            if used.get(slot) != token and slot not in used:
                del self._slots[slot]
                self._context.safety.slot_released(self._engine.incarnation, slot)
        for token in [token for token in self.offered if token not in self.side.blocks]:
            self._context.tell(f"{self._engine.name} has ended lease {token:016x}")
            del self.offered[token]

    def _carry_out_aborts(self) -> None:
        self.waiting = deque(p for p in self.waiting if not self._ends_unfinished(p, blocks=False))
        self.running = [p for p in self.running if not self._ends_unfinished(p, blocks=True)]
        self._aborts.clear()

    def _ends_unfinished(self, prefill: Prefill, blocks: bool) -> bool:
        if prefill.request_id not in self._aborts:
            return False
        self.side.abort(prefill.request_id)
        self._take_cleared()
        if blocks:
            self.pool.give_back(prefill.blocks)
        self._context.tell(f"{self._engine.name} aborts {prefill.request_id}")
        self._context.observer.aborted(self._engine.name, prefill)
        return True

    def _maybe_preempt(self) -> None:
        """Now and then the scheduler takes the blocks of a running request away, and lets it begin again."""
        if self.running and self._engine.life.random() < PREEMPTED:
            self._preempt()

    def _preempt(self) -> None:
        prefill = self.running.pop()
        self.pool.give_back(prefill.blocks)
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
        """Offer a prefill's blocks under a lease. The request ends at once: its lease alone holds them from now on."""
        ref = self.side.finish(prefill.request_id, prefill.blocks, prefill.parent)
        offer: dict[str, Any] | None = None
        if ref is not None:
            self.offered[ref.token] = tuple(prefill.blocks)
            self._context.observer.granted(self._engine.name, prefill, ref)
            offer = {"kv_lease": ref.to_params(), "remote_block_ids": list(prefill.blocks)}
        else:
            self._take_cleared()
            self._context.tell(f"{self._engine.name} offers nothing for {prefill.request_id}: no slot, or no agent")
        self.pool.give_back(prefill.blocks)
        self._context.observer.prefilled(self._engine.name, prefill, offer)

    def reset(self) -> None:
        """Reset the cache, as for new weights: what runs begins again, and nothing computed before may be read."""
        while self.running:
            self._preempt()
        self.side.reset()
        self._take_cleared()
        self.pool.forget_all()
        self._weights += 1
        if not self._context.plan.elsewhere:
            # New weights are for every block what a new owner is. Words that workers clear by order follow in steps.
            for block in range(self._context.plan.blocks + 1):
                self._context.safety.given(self._engine.incarnation, block)
        self.notice_free_slots()

    def _take_cleared(self) -> list[int]:
        """Returns the granted leases whose words were to be cleared since the last call, where that is at once."""
        if self._fences is None:
            return []
        cleared, self._fences.cleared = self._fences.cleared, []
        if not self._fences.at_once:
            return []
        return [token for token in cleared if self._context.safety.leases[token].granted]

    # -- who asks ------------------------------------------------------------------------------------------------

    def check_references(self) -> None:
        """Check that requests and held leases have one reference to each of their blocks, and nobody any other.

        So what has lapsed costs nothing, and what lives again is held again.
        """
        due = Counter([NULL])
        for prefill in self.running:
            due.update(prefill.blocks)
        for token in self.side.blocks.held:
            due.update(self.offered.get(token, ()))
        for block in sorted(due.keys() | self.pool.references.keys()):
            if due[block] > self.pool.references[block]:
                raise Violation("S2", f"block {block} of {self._engine.name} is held, and counts as free for others")
            if due[block] < self.pool.references[block]:
                raise Violation("L1", f"block {block} of {self._engine.name} is kept for nobody")
