"""The views of its parts that the world needs to say what can happen next."""

from typing import Any, NamedTuple

from kvlease.engine.worker import Part
from kvlease.fence.words import WORD_BYTES
from proof.explore.cell import Cells, Lens
from proof.explore.consumer import ConsumerEngine
from proof.promises.standing import Granted, Stated, granted, stated


class Stepping(NamedTuple):
    """A producer's engine between its scheduler and its workers."""

    free: int
    """The number of free blocks."""
    ordered: bool
    """True where words are to be armed or cleared in the next step."""
    prefill: bool = False
    next: tuple[Part | None, ...] = ()
    """The part of the step that each worker carries out next, None after the last; empty where no step is under way."""
    unwritten: tuple[int, ...] = ()
    """Workers that still have to write the prefill's blocks."""
    clears: bool = False
    """True where some word is to be cleared in the step."""

    @property
    def is_through(self) -> bool:
        """Tells whether a step is under way, and all workers are through with it."""
        return bool(self.next) and not any(self.next) and not self.unwritten


class Request(NamedTuple):
    """A request of a consumer, as far as actions depend on it."""

    holder: str
    stage: str
    aborted: bool
    unread: tuple[int, ...]
    """Workers of the producer from which blocks are missing."""
    begun: bool
    """True once some block is read."""


class Lenses:
    """The views of parts; each part is looked at once in each view."""

    def __init__(self, cells: Cells) -> None:
        self.stepping = Lens(cells, _stepping)
        self.requests = Lens(cells, _requests)
        self.fencing = Lens(cells, _fencing)
        """The requests that the fence reads under way are for, in the order of `WordRead`s."""
        self.at_once = Lens(cells, _at_once)
        """The action that a consumer's worker takes without delay, when the steps are not fine (`Actions.eager`)."""
        self.word_reads: Lens[list[Any]] = Lens(cells, lambda engine: engine.plane.reads)
        self.tasks: Lens[dict[str, Any]] = Lens(cells, lambda engine: engine.tasks)
        self.asking: Lens[int] = Lens(cells, lambda engine: len(engine.promises))
        """The number of cards that a consumer's worker waits for."""
        self.contents: Lens[list[list[int]]] = Lens(cells, lambda engine: [w.contents for w in engine.workers])
        self.tables: Lens[list[Any]] = Lens(cells, lambda engine: [w.table for w in engine.workers])
        self.revoked: Lens[bool] = Lens(cells, lambda agent: bool(agent.core.snapshot().revoked))
        self.reachable: Lens[frozenset[int]] = Lens(cells, _reachable)
        self.stated: Lens[tuple[Stated, ...]] = Lens(cells, lambda agent: stated(agent.core.peer.lessee.snapshot()))
        self.granted: Lens[Granted] = Lens(cells, lambda agent: granted(agent.core.peer.lessor.snapshot()))
        self.part: Lens[Any] = Lens(cells, lambda part: part)
        """The part itself; not to be changed."""
        self.settled: Lens[Any] = Lens(cells, lambda books: books.settled)


def _stepping(engine: Any) -> Stepping:
    step = engine.step
    free, ordered = len(engine.free), engine.side.slots.has_orders
    if step is None:
        return Stepping(free, ordered)
    parts = (*step.parts, None)
    unwritten = () if step.prefill is None else tuple(w for w in range(len(step.done)) if w not in step.wrote)
    clears = step.orders is not None and bool(step.orders.fence.clear)
    return Stepping(
        free, ordered, step.prefill is not None, tuple(parts[done] for done in step.done), unwritten, clears
    )


def _requests(engine: ConsumerEngine) -> tuple[Request, ...]:
    found = []
    for holder, task in sorted(engine.tasks.items()):
        unread = tuple(worker for worker in engine.workers if task.read[worker] < len(task.blocks))
        found.append(Request(holder, task.stage, task.aborted, unread, any(task.read)))
    return tuple(found)


def _fencing(engine: ConsumerEngine) -> tuple[str, ...]:
    reading = engine.verifier.snapshot().reading
    return tuple(str(reading[read.local // WORD_BYTES] or "") for read in engine.plane.reads)


def _at_once(engine: ConsumerEngine) -> tuple[Any, ...] | None:
    for index, holder in enumerate(_fencing(engine)):
        return ("fence", holder, index)
    for request in _requests(engine):
        if request.stage == "reading" and request.begun:
            return ("read", request.holder, request.unread[0])
    return None


def _reachable(agent: Any) -> frozenset[int]:
    return frozenset(peer for peer, reachable in agent.wire.reachable.items() if reachable)
