"""The views of its parts that the world needs to say what can happen next."""

from typing import Any, NamedTuple

from kvlease.engine.worker import StepPart
from kvlease.fence.words import WORD_BYTES
from kvlease.protocol.effects import Lapse
from proof.explore.consumer import ConsumerEngine
from proof.explore.parts import Parts, View
from proof.promises.standing import Granted, Stated, granted, stated


class Leased(NamedTuple):
    """The leases of a producer's engine that are granted and not ended."""

    held: frozenset[int]
    lapsed: frozenset[int]
    by_order: bool
    """True where words are cleared by order: the blocks of leases whose words are being cleared are held."""


class Stepping(NamedTuple):
    """A producer's engine between its scheduler and its workers."""

    free: int
    """The number of free blocks."""
    ordered: bool
    """True where words are to be armed or cleared in the next step."""
    prefill: bool = False
    next: tuple[StepPart | None, ...] = ()
    """The part of the step that each worker carries out next, None after the last; empty where no step is under way."""
    unwritten: tuple[int, ...] = ()
    """Workers that still have to write the prefill's blocks."""
    cached: bool = False
    """True where the cache has the block that prompts begin with, and it is not free."""
    clears: bool = False
    """True where some word is to be cleared in the step."""

    @property
    def is_through(self) -> bool:
        """Tells whether a step is under way, and all workers are through with it."""
        return bool(self.next) and not any(self.next) and not self.unwritten


class RequestView(NamedTuple):
    """A request of a consumer, as far as actions depend on it."""

    holder: str
    stage: str
    aborted: bool
    unread: tuple[int, ...]
    """Workers of the producer from which blocks are missing."""
    begun: bool
    """True once some block is read."""


class Views:
    """The views of parts; each part is looked at once in each view."""

    def __init__(self, parts: Parts) -> None:
        self.stepping = View(parts, _stepping)
        self.requests = View(parts, _requests)
        self.fencing = View(parts, _fencing)
        """The requests that the fence reads under way are for, in the order of `WordRead`s."""
        self.at_once = View(parts, _at_once)
        """The action that a consumer's worker takes without delay, when the steps are not fine (`Actions.eager`)."""
        self.word_reads: View[list[Any]] = View(parts, lambda engine: engine.plane.reads)
        self.tasks: View[dict[str, Any]] = View(parts, lambda engine: engine.tasks)
        self.asking: View[int] = View(parts, lambda engine: len(engine.promises))
        """The number of cards that a consumer's worker waits for."""
        self.contents: View[list[list[int]]] = View(parts, lambda engine: [w.contents for w in engine.workers])
        self.tables: View[list[Any]] = View(parts, lambda engine: [w.table for w in engine.workers])
        self.has_news: View[bool] = View(parts, lambda agent: bool(agent.core.snapshot().news))
        self.only_lapses: View[bool] = View(parts, _only_lapses)
        self.leased: View[Leased] = View(parts, _leased)
        self.reachable: View[frozenset[int]] = View(parts, _reachable)
        self.stated: View[tuple[Stated, ...]] = View(parts, lambda agent: stated(agent.core.peer.lessee.snapshot()))
        self.granted: View[Granted] = View(parts, lambda agent: granted(agent.core.peer.lessor.snapshot()))
        self.part: View[Any] = View(parts, lambda part: part)
        """The part itself; not to be changed."""
        self.settled: View[Any] = View(parts, lambda books: books.settled)


def _stepping(engine: Any) -> Stepping:
    step = engine.step
    cached = engine.alike is not None and engine.alike not in engine.pool.queue
    free, ordered = engine.pool.free, engine.side.fences.has_orders
    if step is None:
        return Stepping(free, ordered, cached=cached)
    parts = (*step.parts, None)
    unwritten = () if step.prefill is None else tuple(w for w in range(len(step.done)) if w not in step.wrote)
    clears = step.orders is not None and bool(step.orders.fence.clear)
    return Stepping(
        free, ordered, step.prefill is not None, tuple(parts[done] for done in step.done), unwritten, clears=clears
    )


def _leased(engine: Any) -> Leased:
    blocks = engine.side.blocks
    return Leased(frozenset(blocks.held), frozenset(blocks.lapsed), not engine.side.fences.at_once)


def _requests(engine: ConsumerEngine) -> tuple[RequestView, ...]:
    found = []
    for holder, task in sorted(engine.tasks.items()):
        unread = tuple(worker for worker in engine.workers if task.read[worker] < len(task.blocks))
        found.append(RequestView(holder, task.stage, task.aborted, unread, any(task.read)))
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


def _only_lapses(agent: Any) -> bool:
    news = agent.core.snapshot().news
    return bool(news) and all(isinstance(effect, Lapse) for effect in news)


def _reachable(agent: Any) -> frozenset[int]:
    return frozenset(peer for peer, reachable in agent.wire.reachable.items() if reachable)
