"""A producer's engine in the explored world: a scheduler, workers that carry out each step on their own, few blocks.

As with vLLM, a step is a barrier at its end only: its orders reach each worker at a moment of its own, a worker arms
and writes before it clears, and the scheduler hears of it when all are through.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kvlease.explore.request import Request, prompt_of
from kvlease.explore.scale import CONFIG, Bounds
from kvlease.explore.wire import Clock, Desk, WatchedTable
from kvlease.fence.ledger import FenceOrders
from kvlease.protocol.effects import Revoke
from kvlease.roles.producer import ProducerSide
from kvlease.roles.words import WorkerWords

Fact = tuple[Any, ...]
TOKENS = (0xA1, 0xB2, 0xC3, 0xE4)
"""One a lease, in the order of their prefills; different in their lowest three bits (`canonical`)."""


@dataclass(slots=True)
class Draw:
    """Where tokens come from: not from chance here."""

    drawn: int

    def __call__(self) -> int:
        self.drawn += 1
        return TOKENS[self.drawn - 1]


@dataclass(slots=True)
class Step:
    """A step under way. `begun` and `over` are the workers that armed and wrote, and those that are through."""

    orders: FenceOrders
    prefill: str | None
    begun: set[int] = field(default_factory=set)
    over: set[int] = field(default_factory=set)
    cleared: Counter[int] = field(default_factory=Counter)
    released: Counter[str] = field(default_factory=Counter)


class ProducerEngine:
    """An input is a tuple that begins with the name of a method here."""

    def __init__(self, incarnation: int, bounds: Bounds, drawn: int, now: float) -> None:
        self.clock = Clock(now)
        self.facts: list[Fact] = []
        self.desk = Desk(incarnation)
        self.workers = range(bounds.workers)
        self.side = ProducerSide(CONFIG, self.desk, bounds.workers, prompt_of, draw=Draw(drawn), clock=self.clock)
        self.side.open(bounds.slots)
        self.tables = [WatchedTable(bounds.slots, partial(self._word_fact, worker)) for worker in self.workers]
        self.words = [WorkerWords(held) for held in self.tables]
        self.contents: list[list[int]] = [[0] * bounds.blocks for _ in self.workers]
        """By worker and block, the token of the lease it was written for; 0 for what is nobody's."""
        self.free = list(range(bounds.blocks))
        """The block freed last is handed out first."""
        self.blocks_of: dict[str, tuple[int, ...]] = {}
        self.token_of: dict[str, int] = {}
        self.releasing: Counter[str] = Counter()
        """Of requests that not all workers have reported as sent, how many have."""
        self.step: Step | None = None

    # -- inputs --------------------------------------------------------------------------------------------------

    def schedule(self, revoked: tuple[Revoke, ...], request_id: str | None, size: int) -> tuple[Any, ...]:
        """A step begins, with a prefill of `size` blocks or none."""
        assert self.step is None
        if request_id is not None:
            self.side.take_on(_request(request_id))
            self._allocate(request_id, size)
        self.desk.revoked = list(revoked)
        self.step = Step(self.side.take_orders(), request_id)
        return self._outcome()

    def begin(self, worker: int) -> tuple[Any, ...]:
        """A worker arms and writes. Where nothing is to be cleared, its part of the step is over."""
        step = self._step()
        self.words[worker].arm(step.orders)
        if step.prefill is not None:
            for block in self.blocks_of[step.prefill]:
                self.contents[worker][block] = self.token_of.get(step.prefill, 0)
        step.begun.add(worker)
        if not step.orders.clear:
            step.over.add(worker)
        return self._outcome()

    def end(self, worker: int) -> tuple[Any, ...]:
        """A worker clears, last thing in its step, and reports."""
        step = self._step()
        assert worker in step.begun
        words = self.words[worker]
        for word in step.orders.clear:
            if words.clear(word.slot):
                # What it reports as sent, and what it cleared, are two reports: see `LeasedWorker._clear`.
                step.released[word.request_id] += 1
        step.cleared.update(words.take_cleared())
        step.over.add(worker)
        return self._outcome()

    def finish(self, aborted: bool) -> tuple[Any, ...]:
        """All workers are through: the scheduler hears them, frees, and offers the prefill unless it was aborted."""
        step = self._step()
        assert len(step.over) == len(self.workers)
        self.step = None
        held = self._slots_held()
        self.side.hear_cleared(step.cleared)
        for slot in sorted(held - self._slots_held()):
            self._fact("slot_released", slot)
        self.releasing.update(step.released)
        for request_id in [r for r, count in self.releasing.items() if count == len(self.workers)]:
            del self.releasing[request_id]
            if request_id in self.blocks_of:
                self._free(request_id)
        offer = None if step.prefill is None else self._conclude(step.prefill, aborted)
        return self._outcome(offer)

    # -- how it is done ------------------------------------------------------------------------------------------

    def _step(self) -> Step:
        assert self.step is not None
        return self.step

    def _allocate(self, request_id: str, size: int) -> None:
        assert len(self.free) >= size
        self.blocks_of[request_id] = tuple(self.free.pop() for _ in range(size))
        self.side.prepare(request_id)
        assert self.side._ledger is not None
        if (word := self.side._ledger.word(request_id)) is not None:
            self.token_of[request_id] = word.token
            self._fact("prepared", word.slot, word.token)

    def _conclude(self, request_id: str, aborted: bool) -> Any:
        """What the router gets: (reference, blocks), or None where nothing is offered."""
        prompt = self.side.take_prompt(request_id)
        if prompt is None or not self.side.has(request_id):
            self._free(request_id)
            return None
        if aborted:
            self.side.abort(request_id)
            self._free(request_id)
            return None
        self._fact("granted", self.token_of[request_id])
        ref = self.side.grant(_request(request_id), prompt, (list(self.blocks_of[request_id]),))
        return ref, self.blocks_of[request_id]

    def _free(self, request_id: str) -> None:
        self.free.extend(reversed(self.blocks_of.pop(request_id)))
        if (token := self.token_of.pop(request_id, None)) is not None:
            self._fact("freed", token)

    def _slots_held(self) -> set[int]:
        assert self.side._ledger is not None
        return set(range(self.side._ledger.slots)) - set(self.side._ledger._free)

    def _fact(self, name: str, *arguments: object) -> None:
        self.facts.append((name, self.desk.incarnation, *arguments))

    def _word_fact(self, worker: int, name: str, *arguments: object) -> None:
        self._fact(name, worker, *arguments)

    def _outcome(self, offer: Any = None) -> tuple[Any, ...]:
        """(facts, what the agent is told, what is offered)."""
        facts, self.facts = self.facts, []
        said, self.desk.said = self.desk.said, []
        return tuple(facts), tuple(said), offer


def _request(request_id: str) -> Request:
    return Request(request_id, int(request_id.removeprefix("prefill-")))
