"""The fences of its producers that a consumer's worker knows."""

import enum
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

from kvlease.errors import CardUnavailable
from kvlease.fence import FenceAddress
from kvlease.protocol import Endpoint, LeaseCard, LeaseRef

Rank = tuple[int, int]


class Admission(enum.Enum):
    """The answer to whether a leased request may be read."""

    READ = "read"
    """The fence of its producer incarnation is known."""
    WAIT = "wait"
    """The producer's card is being fetched; the request is to be asked about again when it has come."""
    REFUSED = "refused"
    """Its producer incarnation does not live at this engine, or cannot be asked."""


@dataclass(frozen=True, slots=True)
class Source:
    """A producer as a request names it: the engine's name, and its side channel."""

    engine_id: str
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class _Fence:
    """The fence tables of one producer incarnation."""

    incarnation: int
    tables: Mapping[Rank, FenceAddress]

    @classmethod
    def of(cls, card: LeaseCard) -> "_Fence":
        return cls(card.incarnation, {(w.pp_rank, w.tp_rank): FenceAddress(w.base, w.slots) for w in card.fences})

    def guards(self, ref: LeaseRef, ranks: Iterable[Rank]) -> bool:
        """Tells whether every one of these workers of the producer has a word for this lease."""
        tables = [self.tables.get(rank) for rank in ranks]
        return self.incarnation == ref.incarnation and all(table and ref.slot < table.slots for table in tables)


class FencesSnapshot(NamedTuple):
    """The knowledge of a worker of its producers at a moment."""

    known: frozenset[str]
    """The engines whose fences are known."""
    fetching: frozenset[str]
    """The requests for which a card is being fetched, or has come and was not looked at."""
    replaced: frozenset[str]
    """The engines that turned out to be another incarnation, which was not yet told."""


class KnownFences:
    """Fetches producers' lease cards when they are first needed, and keeps them.

    A card of another incarnation than the one known means that the engine was restarted under its old name, and that
    its known fence is out of date.
    """

    def __init__(self, fetch: Callable[[Endpoint], Future[LeaseCard]]) -> None:
        """`fetch` begins to fetch a card and does not wait; its future may raise `CardUnavailable`."""
        self._fetch = fetch
        self._known: dict[str, _Fence] = {}
        self._fetched: dict[str, Future[LeaseCard]] = {}
        self._replaced: set[str] = set()

    def admit(
        self, request_id: str, source: Source, ref: LeaseRef, ranks: Iterable[Rank], come_back: Callable[[], None]
    ) -> Admission:
        """Tells whether this request may be read from these workers. Fetches the card at most once a request.

        `come_back` is called, in the thread that fetches, when it makes sense to ask again.
        """
        fetched = self._fetched.pop(request_id, None)
        if fetched is not None:
            self._learn(source.engine_id, fetched)
        fence = self._known.get(source.engine_id)
        if fence is not None and fence.guards(ref, ranks):
            return Admission.READ
        if fetched is not None:
            return Admission.REFUSED
        future = self._fetch(source.endpoint)
        self._fetched[request_id] = future
        future.add_done_callback(lambda _: come_back())
        return Admission.WAIT

    def _learn(self, engine_id: str, fetched: "Future[LeaseCard]") -> None:
        try:
            fence = _Fence.of(fetched.result())
        except CardUnavailable:
            return
        known = self._known.setdefault(engine_id, fence)
        if known.incarnation != fence.incarnation:
            del self._known[engine_id]
            self._replaced.add(engine_id)

    def table(self, engine_id: str, rank: Rank) -> FenceAddress:
        """Returns the fence table of a producer's worker. The engine must be known: some request of it was admitted."""
        return self._known[engine_id].tables[rank]

    def take_replaced(self, engine_id: str) -> bool:
        """Tells, once, whether this engine turned out to be another incarnation than the one known."""
        replaced = engine_id in self._replaced
        self._replaced.discard(engine_id)
        return replaced

    def forget(self, request_id: str) -> None:
        """The request is reported as read or failed."""
        self._fetched.pop(request_id, None)

    def drop(self, engine_id: str) -> None:
        """Nothing is read from this engine any more."""
        self._known.pop(engine_id, None)
        self._replaced.discard(engine_id)

    def snapshot(self) -> FencesSnapshot:
        """Returns all that is known."""
        return FencesSnapshot(frozenset(self._known), frozenset(self._fetched), frozenset(self._replaced))
