"""A producer's engine in the explored world: a scheduler, workers that carry out each step on their own, few blocks.

A step is a barrier at its end only, as with vLLM: its orders reach each worker at a moment of its own, its parts are
carried out in their order and its forward pass at any moment beside them, and the scheduler hears of it when all are
through.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.orders import LeaseOrders, WorkerReport
from kvlease.engine.producer import ProducerSide
from kvlease.engine.scheduler import LeaseScheduler
from kvlease.engine.worker import LeaseWorker, StepPart
from kvlease.protocol.effects import Revoke
from kvlease.testing.clock import ManualClock
from kvlease.testing.desk import ListedDesk
from proof.explore.scale import CONFIG, Bounds, prompt
from proof.explore.wire import ListedReads, ListedWords, new_verifier, no_cards
from proof.promises.safety import Violation
from proof.promises.watched import WatchedTable

Fact = tuple[Any, ...]
TOKENS = (0xA1, 0xB2, 0xC3, 0xE4)
"""The tokens, one a lease, in the order of their prefills; different in their lowest three bits (`canonical`)."""


@dataclass(slots=True)
class Draw:
    """The source of tokens, which is not chance here."""

    drawn: int

    def __call__(self) -> int:
        self.drawn += 1
        return TOKENS[self.drawn - 1]


@dataclass(slots=True)
class Step:
    """A step under way."""

    orders: LeaseOrders | None
    prefill: str | None
    dropped: tuple[str, ...]
    """Requests whose blocks are not to be sent after all, as vLLM's metadata says."""
    parts: tuple[StepPart, ...]
    """The parts that each worker carries out, in this order."""
    done: list[int]
    """The number of parts that each worker has carried out."""
    wrote: set[int] = field(default_factory=set)
    """Workers that have written the prefill's blocks."""
    cleared: Counter[int] = field(default_factory=Counter)
    released: Counter[str] = field(default_factory=Counter)

    def is_over(self, worker: int) -> bool:
        """Tells whether this worker is through with the step."""
        return self.done[worker] == len(self.parts) and (self.prefill is None or worker in self.wrote)


class Worker:
    """A worker, and what it knows of requests."""

    def __init__(self, slots: int, blocks: int, watch: Callable[[int, int], None]) -> None:
        self.table = WatchedTable(ListedWords(slots), watch)
        self.leases = LeaseWorker(self.table, new_verifier(ListedReads(), ListedWords(1), ManualClock(0.0)), no_cards)
        self.contents = [0] * blocks
        """The token of the lease that each block was written for; 0 for none."""
        self.to_send: set[str] = set()
        """Requests that the worker knows of, and whose blocks it has not reported (vLLM's `_reqs_to_process`)."""
        self.released: list[str] = []


@dataclass(frozen=True, slots=True)
class WorkerStep:
    """A worker in one step (`kvlease.engine.ports.HostWorker`)."""

    worker: Worker
    step: Step

    def load(self) -> None:
        if self.step.prefill is not None:
            self.worker.to_send.add(self.step.prefill)
        self.worker.to_send.difference_update(self.step.dropped)

    def fail(self, request_id: str) -> None:
        raise AssertionError(f"{request_id}: a producer reads nothing")

    def let_go(self, request_id: str) -> None:
        if request_id in self.worker.to_send:
            self.worker.to_send.remove(request_id)
            self.worker.released.append(request_id)


class ProducerEngine:
    """The engine of the producer. An input is a tuple that begins with the name of a method here."""

    def __init__(self, incarnation: int, bounds: Bounds, drawn: int, now: float) -> None:
        self.clock = ManualClock(now)
        self.facts: list[Fact] = []
        self.desk = ListedDesk(incarnation)
        self.side = ProducerSide(CONFIG, self.desk, bounds.workers, draw=Draw(drawn), clock=self.clock)
        self.side.open(bounds.slots)
        self.leases = LeaseScheduler(self.desk, self.side, ConsumerSide(self.desk))
        self.workers = [Worker(bounds.slots, bounds.blocks, partial(self._word_fact, w)) for w in range(bounds.workers)]
        self.free = list(range(bounds.blocks))
        """Free blocks; the one freed last is handed out first."""
        self.blocks_of: dict[str, tuple[int, ...]] = {}
        self.token_of: dict[str, int] = {}
        self.dropped: tuple[str, ...] = ()
        """Requests that workers are to forget in the next step."""
        self.releasing: Counter[str] = Counter()
        """The number of workers that have reported a request as sent, until all have."""
        self.step: Step | None = None

    # -- inputs --------------------------------------------------------------------------------------------------

    def schedule(self, revoked: tuple[Revoke, ...], request_id: str | None, size: int) -> tuple[Any, ...]:
        """A step begins, with a prefill of `size` blocks or none."""
        assert self.step is None
        if request_id is not None:
            self.side.take_on(request_id, prompt(_number(request_id)))
            self._allocate(request_id, size)
        self.desk.revoked = list(revoked)
        orders = self.leases.begin_step(())
        parts = (StepPart.LOAD,) if orders is None else LeaseWorker.order
        self.step = Step(orders, request_id, self.dropped, parts, [0 for _ in self.workers])
        self.dropped = ()
        return self._outcome()

    def part(self, number: int) -> tuple[Any, ...]:
        """A worker carries out the next part of its step; the last of them ends with its report."""
        step, worker = self._step(), self.workers[number]
        host = WorkerStep(worker, step)
        if step.orders is None:
            host.load()
        else:
            worker.leases.do(step.parts[step.done[number]], step.orders, host)
        step.done[number] += 1
        if step.done[number] == len(step.parts):
            self._report(worker, step)
        return self._outcome()

    def write(self, number: int) -> tuple[Any, ...]:
        """A worker's forward pass writes the prefill's blocks."""
        step = self._step()
        assert step.prefill is not None
        for block in self.blocks_of[step.prefill]:
            self.workers[number].contents[block] = self.token_of.get(step.prefill, 0)
        step.wrote.add(number)
        return self._outcome()

    def finish(self, aborted: bool) -> tuple[Any, ...]:
        """All workers are through: the scheduler hears them, frees, and offers the prefill unless it was aborted."""
        step = self._step()
        assert all(step.is_over(worker) for worker in range(len(self.workers)))
        self.step = None
        held = self.side.slots.snapshot().used
        self.leases.hear((), WorkerReport(step.cleared))
        for slot in sorted(held.keys() - self.side.slots.snapshot().used.keys()):
            self._fact("slot_released", slot)
        self.releasing.update(step.released)
        for request_id in [r for r, count in self.releasing.items() if count == len(self.workers)]:
            del self.releasing[request_id]
            if request_id not in self.blocks_of:
                # vLLM's scheduler asserts that it knows the request, and the engine ends.
                raise Violation("error", f"{request_id} is reported as sent, which nobody sends")
            self._free(request_id)
        offer = None if step.prefill is None else self._conclude(step.prefill, aborted)
        return self._outcome(offer)

    # -- how it is done ------------------------------------------------------------------------------------------

    def _step(self) -> Step:
        assert self.step is not None
        return self.step

    def _report(self, worker: Worker, step: Step) -> None:
        released, worker.released = worker.released, []
        step.released.update(released)
        report = worker.leases.take_report()
        if report is not None:
            step.cleared.update(report.cleared)

    def _allocate(self, request_id: str, size: int) -> None:
        assert len(self.free) >= size
        self.blocks_of[request_id] = tuple(self.free.pop() for _ in range(size))
        self.side.prepare(request_id)
        if (slot := self.side.slots.of(request_id)) is not None:
            self.token_of[request_id] = slot.token
            self._fact("prepared", slot.index, slot.token)

    def _conclude(self, request_id: str, aborted: bool) -> Any:
        """Returns what the router gets: (reference, blocks), or None where nothing is offered."""
        blocks = self.blocks_of[request_id]
        if aborted:
            self.side.abort(request_id)
            ref = None
        else:
            ref = self.side.finish(request_id, len(blocks))
        if ref is None:
            self.dropped = (*self.dropped, request_id)
            self._free(request_id)
            return None
        self._fact("granted", ref.token)
        return ref, blocks

    def _free(self, request_id: str) -> None:
        self.free.extend(reversed(self.blocks_of.pop(request_id)))
        if (token := self.token_of.pop(request_id, None)) is not None:
            self._fact("freed", token)

    def _fact(self, name: str, *arguments: object) -> None:
        self.facts.append((name, self.desk.incarnation, *arguments))

    def _word_fact(self, worker: int, slot: int, token: int) -> None:
        if token:
            self._fact("armed", worker, slot, token)
        else:
            self._fact("cleared", worker, slot)

    def _outcome(self, offer: Any = None) -> tuple[Any, ...]:
        """Returns (facts, what the agent is told, what is offered)."""
        facts, self.facts = self.facts, []
        said, self.desk.said = self.desk.said, []
        return tuple(facts), tuple(said), offer


def _number(request_id: str) -> int:
    return int(request_id.removeprefix("prefill-"))
