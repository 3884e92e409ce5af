"""What a consumer's worker knows of its producers' fences."""

import enum
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from queue import Queue

from kvlease.fence import FenceAddress
from kvlease.protocol import LeaseCard, LeaseRef
from kvlease.vllm.compat import ReqMeta
from kvlease.vllm.side_channel import CardUnavailable, fetch_card

Rank = tuple[int, int]


class Admission(enum.Enum):
    """Whether a leased request may be read."""

    READ = "read"
    """The fence of its producer incarnation is known."""
    WAIT = "wait"
    """The producer's card is being fetched; the request comes back to the worker's ready queue."""
    REFUSED = "refused"
    """Its producer incarnation does not live at this engine, or cannot be asked."""


@dataclass(frozen=True, slots=True)
class _Fence:
    """The fence tables of one producer incarnation."""

    incarnation: int
    tables: Mapping[Rank, FenceAddress]

    @classmethod
    def of(cls, card: LeaseCard) -> "_Fence":
        return cls(card.incarnation, {(w.pp_rank, w.tp_rank): FenceAddress(w.base, w.slots) for w in card.fences})

    def guards(self, ref: LeaseRef, ranks: Iterable[Rank]) -> bool:
        """Whether every one of these workers of the producer has the word of this lease."""
        tables = [self.tables.get(rank) for rank in ranks]
        return self.incarnation == ref.incarnation and all(table and ref.slot < table.slots for table in tables)


class RemoteFences:
    """Fetches producers' lease cards when they are first needed, in the thread of vLLM's handshakes, and keeps them.

    A card of another incarnation than the one known means that the engine was restarted under its old name, and that
    what vLLM knows of it is as old.
    """

    def __init__(self, executor: Executor, ready: "Queue[tuple[str, ReqMeta]]") -> None:
        self._executor = executor
        self._ready = ready
        self._known: dict[str, _Fence] = {}
        self._fetched: dict[str, Future[LeaseCard]] = {}
        self._replaced: set[str] = set()

    def admit(self, request_id: str, meta: ReqMeta, ref: LeaseRef, ranks: Iterable[Rank]) -> Admission:
        """May this request be read, from these workers? Fetches the card at most once a request before it says no."""
        engine_id = meta.remote.engine_id
        fetched = self._fetched.pop(request_id, None)
        if fetched is not None:
            self._learn(engine_id, fetched)
        fence = self._known.get(engine_id)
        if fence is not None and fence.guards(ref, ranks):
            return Admission.READ
        if fetched is not None:
            return Admission.REFUSED
        future = self._executor.submit(fetch_card, (meta.remote.host, meta.remote.port))
        self._fetched[request_id] = future
        future.add_done_callback(lambda _: self._ready.put((request_id, meta)))
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
        """The fence table of a producer's worker. The engine must be known: some request of it was admitted."""
        return self._known[engine_id].tables[rank]

    def take_replaced(self, engine_id: str) -> bool:
        """Whether the engine turned out to be another incarnation than the one that vLLM knows; said once."""
        replaced = engine_id in self._replaced
        self._replaced.discard(engine_id)
        return replaced

    def forget(self, request_id: str) -> None:
        """The request is reported, read or failed."""
        self._fetched.pop(request_id, None)

    def drop(self, engine_id: str) -> None:
        """vLLM has let go of this engine."""
        self._known.pop(engine_id, None)
        self._replaced.discard(engine_id)
