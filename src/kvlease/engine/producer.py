"""The lease's part of a producer's scheduler: each lease from its preparation until its word is clear."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from kvlease.engine.leased_blocks import LeasedBlocks
from kvlease.engine.own_fences import OrderedFences, OwnFences
from kvlease.engine.ports import BlockPool, LeaseDesk
from kvlease.errors import brief
from kvlease.fence.slots import FenceSlots, Slot, draw_token
from kvlease.logs import bounded_logger
from kvlease.protocol import Cause, Fingerprint, LeaseConfig, LeaseRef, LeaseState
from kvlease.protocol.effects import Lapse, LeaseNews
from kvlease.protocol.engine_facts import ClaimTooLate, PrefillDeclined, PrefillOffered, TellEngine, UnfencedRead
from kvlease.protocol.messages import milliseconds
from kvlease.protocol.states import LEASE, LeaseEvent, after

bounded = bounded_logger(__name__)

UNREAD = (Cause.EXPIRED, Cause.ORPHANED, Cause.AGED_OUT)
"""The ends of leases whose blocks nobody is known to have read."""
_NEVER_AGAIN = (Cause.ABORTED, Cause.REVOKED)
"""The ends after which nobody is to read: the words are cleared as soon as they are heard of."""
_ENDS = {
    Cause.EXPIRED: "expired",
    Cause.ORPHANED: "lost its dead consumer, and nobody took over",
    Cause.AGED_OUT: "reached its maximum age",
}
_DECLINED = {
    "no_slot": "all fence slots are in use; raise kv_lease_fence_slots",
    "no_producer": "the workers of this engine have no fence",
    "no_agent": "the lease agent of this engine is not running",
    "draining": "this engine is being drained",
}


class ProducerSide:
    """Prepares leases, grants them, gives their blocks back when they are over, and has their words cleared before
    anybody is given those.

    Attributes: `workers`: the number of this engine's. `slots`: those of the fence, none until the workers have tables
    (`open`). `fences`: the words in them. `blocks`: those of the leases. `counts`: events since the start:
    declined.<why>, ends.<cause>, late_claims.<outcome>, reclaimed_blocks, saved_tokens, unfenced_reads. `ended`: leases
    that were over since the start, those that were never granted included. `cleared`: those whose word is clear since.
    `prepared`: those that are prepared and neither granted nor over. `draining`: no lease is prepared, and none that is
    over lives again; any thread may set it.
    """

    def __init__(
        self,
        config: LeaseConfig,
        desk: LeaseDesk,
        pool: BlockPool,
        workers: int,
        *,
        draw: Callable[[], int] = draw_token,
        clock: Callable[[], float] = time.monotonic,
        tell: TellEngine | None = None,
    ) -> None:
        """`draw` gives tokens (`fence.slots.draw_token`); `clock`, the agent's, gives monotonic seconds. `tell` hears
        facts."""
        self.workers = workers
        self.counts: Counter[str] = Counter()
        self.ended = 0
        self.cleared = 0
        self.prepared = 0
        self.draining = False
        self.slots = FenceSlots(0, draw)
        self.fences: OwnFences = OrderedFences(workers)
        self.blocks = LeasedBlocks(pool)
        pool.watch(self._reused)
        self._config = config
        self._desk = desk
        self._clock = clock
        self._tell = tell
        self._prompts: dict[str, Fingerprint] = {}
        """The prompts of the requests that are being computed for another engine."""
        self._clearing: set[int] = set()
        """The leases whose words the workers are to clear by order."""
        self._read_by: Counter[str] = Counter()
        """The number of workers that a stock consumer has told that it has read, by request, until all are."""
        self._retired: dict[str, None] = {}
        """The requests whose leases have ended since `take_retired`."""
        self._last_sibling: dict[str, int] = {}
        self._parent_of: dict[int, str] = {}

    @property
    def holds_by_order(self) -> bool:
        """Tells whether the engine must go on making steps for its leases, since workers clear their words in them."""
        return not self.fences.at_once and bool(self.blocks.held_leases or self._clearing)

    def open(self, slots: int, fences: OwnFences) -> None:
        """The workers have fence tables of `slots` words each: leases can be prepared from now on."""
        if not self.slots.count:
            self.slots = FenceSlots(slots, self.slots.draw)
            self.fences = fences

    def has(self, request_id: str) -> bool:
        """Tells whether a lease is prepared or granted for this request, and not ended."""
        return self.slots.of(request_id) is not None

    # -- a request comes, is scheduled, and ends -----------------------------------------------------------------

    def take_on(self, request_id: str, prompt: Fingerprint) -> None:
        """Takes a new request, whose blocks another engine is to read.

        Its prompt is noted now: an engine may later cut it short, as vLLM does for Mamba, where the reader computes the
        last tokens.
        """
        self._prompts[request_id] = prompt

    def prepare(self, request_id: str) -> None:
        """Prepares a lease when the request is first scheduled: its word is armed before its blocks can be offered."""
        # The blocks that it was given may have ended the lease of an earlier request with this name, in this very step.
        self._retired.pop(request_id, None)
        slot = self.slots.of(request_id)
        if slot is not None:
            if slot.token not in self.blocks:
                # The request was preempted and is scheduled again; its token has not left this engine.
                return
            # An earlier request had this name, and what it computed is still leased.
            self.slots.forget(slot)
            self._read_by.pop(request_id, None)
        # It is counted before `draining` is looked at: whoever sets that, and then finds none left, finds none later.
        self.prepared += 1
        if (declined := self._why_declined()) is None:
            self.fences.arm(self.slots.take(request_id))
        else:
            self.prepared -= 1
            self._decline(request_id, declined)

    def _why_declined(self) -> str | None:
        """Returns why no lease can be prepared now; None where one can, for which there is a free slot then."""
        if self.draining:
            return "draining"
        if not self.slots.count:
            return "no_producer"
        if self._desk.died_at is not None:
            return "no_agent"
        return None if self._has_free_slot() else "no_slot"

    @property
    def left(self) -> int:
        """The leases that hold blocks, or will once their prefill is done. While draining it only falls, to 0.

        Any thread may ask. A lease on its way from the first to the second is counted twice and never not at all: it is
        held before it is prepared no more, and `prepared` is read first.
        """
        prepared = self.prepared
        return prepared + self.blocks.held_leases

    def _has_free_slot(self) -> bool:
        """Tells whether there is a free slot; a lapsed lease has to give up its own for that."""
        if self.slots.full and (spared := self.blocks.least_wanted) is not None:
            self._end(spared)
        return not self.slots.full

    def _decline(self, request_id: str, why: str) -> None:
        self.counts[f"declined.{why}"] += 1
        if self._tell is not None:
            self._tell(PrefillDeclined(request_id, why))
        bounded.warning(
            "kvlease: a prefill is not offered and will be computed again by its decode engine: %s", _DECLINED[why]
        )

    def finish(self, request_id: str, blocks: Sequence[int], parent: str | None = None) -> LeaseRef | None:
        """Grants the lease of a prefill that is done, and returns its reference; None if it has no lease, so no offer.

        `blocks`: those that are offered, which the request still uses. `parent`: of a request with n > 1, whose client
        gets the reference of the child that finishes last; so nobody is told of the others.
        """
        prompt = self._prompts.pop(request_id, None)
        slot = self.slots.of(request_id)
        if slot is None or slot.token in self.blocks:
            return None
        if prompt is None:
            # Two requests had this name, and the first one has taken the prompt.
            self._abort(slot)
            return None
        self.blocks.hold(slot.token, blocks, prompt.tokens)
        self.prepared -= 1
        self._desk.grant(slot.token)
        if self._tell is not None:
            self._tell(PrefillOffered(slot.token, request_id, prompt.tokens, len(blocks), self._config.duration_s))
        if parent is not None:
            self._supersede_sibling(parent, slot.token)
        return LeaseRef(self._desk.incarnation, slot.token, slot.index, milliseconds(self._config.duration_s), prompt)

    def _supersede_sibling(self, parent: str, token: int) -> None:
        earlier = self._last_sibling.get(parent)
        self._last_sibling[parent] = token
        self._parent_of[token] = parent
        if earlier is not None:
            self._desk.abort(earlier)

    def abort(self, request_id: str) -> None:
        """The request ended, and nobody will be told of it. A no-op for a request that has no lease."""
        self._prompts.pop(request_id, None)
        slot = self.slots.of(request_id)
        if slot is not None and slot.token not in self.blocks:
            self._abort(slot)

    def _abort(self, slot: Slot) -> None:
        self._count_end(_cause(LeaseState.PREPARED, LeaseEvent.ABORT))
        self._clear(slot)
        self.prepared -= 1

    # -- leases are over, live again, and end --------------------------------------------------------------------

    def hear_news(self) -> None:
        """Takes the agent's news. It is called before the pool is asked for blocks: what nobody holds any more is free
        then."""
        if self._desk.has_news:
            for news in self._desk.take_news():
                self._hear(news)
        if self._desk.died_at is not None:
            self._take_back_all(self._desk.died_at)

    def _hear(self, news: LeaseNews) -> None:
        if type(news) is Lapse:
            self._lapse(news.token, news.cause)
        elif self.blocks.has_lapsed(news.token):
            self._revive(news.token)
        else:
            # One of its blocks was given away before the claim was heard here; the lessor hears, or has heard, of that.
            self._count_too_late(news.token)

    def _revive(self, token: int) -> None:
        # It is held before `draining` is looked at, as in `prepare`.
        self.blocks.revive(token)
        if self.draining:
            # Its claimants are told, and compute it, as those of one whose blocks have just gone.
            self._count_too_late(token)
            self._end(token)
        else:
            self.counts["late_claims.in_time"] += 1
            self._count_saved(token)

    def _count_too_late(self, token: int) -> None:
        self.counts["late_claims.too_late"] += 1
        if self._tell is not None:
            self._tell(ClaimTooLate(token))

    def _count_saved(self, token: int) -> None:
        size = self.blocks.size(token)
        assert size is not None
        self.counts["saved_tokens"] += size.tokens

    def _lapse(self, token: int, cause: Cause) -> None:
        slot = self.slots.holding(token)
        if slot is None or not self.blocks.holds(token) or token in self._clearing:
            return
        self._count_over(slot, cause)
        if self.fences.at_once and cause not in _NEVER_AGAIN:
            # A lease that was read can be spared before one that somebody may still come for.
            self.blocks.lapse(token, last=cause is not Cause.RELEASED)
        else:
            self._clear(slot)

    def _take_back_all(self, died_at: float) -> None:
        """Ends all leases one term after the agent's death, since nobody hears their consumers any more."""
        if self.blocks.held_leases and self._clock() >= died_at + self._config.duration_s:
            for token in self.blocks.held:
                self._lapse(token, _cause(LeaseState.GRANTED, LeaseEvent.EXPIRE))

    def _reused(self, block: int) -> None:
        """A block is about to be given to somebody: first the words of all its leases are cleared (S2)."""
        for token in self.blocks.of(block):
            self._end(token)

    def reset(self) -> None:
        """The engine is about to reset its cache: what it has computed must not be read any more."""
        for token in self.blocks.held:
            slot = self.slots.holding(token)
            if slot is not None and token not in self._clearing:
                self._count_over(slot, _cause(LeaseState.GRANTED, LeaseEvent.CLEAR))
        for token in (*self.blocks.lapsed, *self.blocks.held):
            self._end(token)

    def _end(self, token: int) -> None:
        slot = self.slots.holding(token)
        assert slot is not None, f"lease {token:016x} has blocks and no slot"
        self._clear(slot)

    def _clear(self, slot: Slot) -> None:
        if self.fences.clear(slot):
            self._retire(slot)
        else:
            self._clearing.add(slot.token)
            self.slots.forget(slot)

    def _retire(self, slot: Slot) -> None:
        """The word is clear in every worker: the lease has ended."""
        token = slot.token
        if self.slots.of(slot.request_id) in (slot, None):
            # Otherwise another request has the name by now.
            self._retired[slot.request_id] = None
            self._read_by.pop(slot.request_id, None)
        self.cleared += 1
        self.slots.retire(slot)
        self._clearing.discard(token)
        if token not in self.blocks:
            # It was never granted.
            return
        self.blocks.forget(token)
        parent = self._parent_of.pop(token, None)
        if parent is not None and self._last_sibling.get(parent) == token:
            del self._last_sibling[parent]
        self._desk.cleared(token)

    def take_retired(self) -> Sequence[str]:
        """Takes the requests whose leases have ended: a worker need not listen for their stock consumers any more."""
        if not self._retired:
            # This is so in nearly every step.
            return []
        retired, self._retired = self._retired, {}
        return list(retired)

    # -- what workers report -------------------------------------------------------------------------------------

    def hear_cleared(self, cleared: Mapping[int, int]) -> None:
        """Workers have cleared these words by order: slot to number of workers."""
        for slot in self.fences.hear_cleared(cleared):
            self._retire(slot)

    def hear_heartbeats(self, request_ids: Iterable[str]) -> None:
        """Workers have seen heartbeats of stock consumers for these requests."""
        for request_id in request_ids:
            heard = self.slots.of(request_id)
            if heard is not None:
                self._desk.extend(heard.token)

    def hear_read(self, read: Mapping[str, int]) -> None:
        """Workers were told by stock consumers that these requests are read: request to number of workers."""
        for request_id, workers in read.items():
            slot = self.slots.of(request_id)
            if slot is None:
                continue
            self._read_by[request_id] += workers
            if self._read_by[request_id] >= self.workers:
                del self._read_by[request_id]
                self._count_unfenced()
                if self._tell is not None:
                    self._tell(UnfencedRead(slot.token, request_id))
                self._desk.release(slot.token)

    def _count_unfenced(self) -> None:
        self.counts["unfenced_reads"] += 1
        bounded.warning(
            "kvlease: leased blocks were read without their fence: by a decode engine that does not run kvlease, or "
            "since a router does not pass kv_lease on"
        )

    def _count_over(self, slot: Slot, cause: Cause) -> None:
        self._count_end(cause)
        if cause is not Cause.RELEASED:
            self.counts["reclaimed_blocks"] += self.blocks.count(slot.token)
        if cause in UNREAD:
            bounded.warning(
                "kvlease: the KV blocks of request %s are free for others, unread: its lease has %s",
                brief(slot.request_id),
                _ENDS[cause],
            )

    def _count_end(self, cause: Cause) -> None:
        self.ended += 1
        self.counts[f"ends.{cause}"] += 1


def _cause(state: LeaseState, event: LeaseEvent) -> Cause:
    """Returns the cause of an end that is decided here, without the lessor, from the table that both use."""
    _, cause = after(LEASE, state, event)
    assert cause is not None
    return cause
