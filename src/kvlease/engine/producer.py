"""A producer's scheduler: a lease from its preparation to the last worker's report."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from kvlease.engine.ports import LeaseDesk
from kvlease.errors import brief
from kvlease.fence.slots import FenceOrders, FenceSlots, Slot, draw_token
from kvlease.logs import bounded_logger
from kvlease.protocol import Cause, Fingerprint, LeaseConfig, LeaseRef, LeaseState
from kvlease.protocol.messages import milliseconds
from kvlease.protocol.states import LEASE, LeaseEvent, after

bounded = bounded_logger(__name__)

UNREAD = (Cause.EXPIRED, Cause.ORPHANED, Cause.AGED_OUT)
"""Ends after which nobody has read the blocks, or nobody that is known to."""
_ENDS = {
    Cause.EXPIRED: "expired",
    Cause.ORPHANED: "lost its dead consumer, and nobody took over",
    Cause.AGED_OUT: "reached its maximum age",
}
_DECLINED = {
    "no_slot": "all fence slots are in use; raise kv_lease_fence_slots",
    "no_producer": "the workers of this engine have no fence",
    "no_agent": "the lease agent of this engine is not running",
}


class ProducerSide:
    """Prepares leases, grants them, has their words cleared when they are over, and counts what is held.

    Attributes: `slots`, the fence's: none until the workers have tables (`open`). `counts`: events since the start:
    declined.<why>, ends.<cause>, reclaimed_blocks, unfenced_reads. `ended`: leases that ended since the start, those
    that were never granted included. `held_blocks`: blocks of leases that were granted and not yet freed.
    """

    def __init__(
        self,
        config: LeaseConfig,
        desk: LeaseDesk,
        workers: int,
        *,
        draw: Callable[[], int] = draw_token,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`draw` gives tokens (`fence.slots.draw_token`), `clock` monotonic seconds, the agent's own."""
        self.counts: Counter[str] = Counter()
        self.ended = 0
        self.held_blocks = 0
        self.slots = FenceSlots(0, workers, draw)
        self._config = config
        self._desk = desk
        self._clock = clock
        self._prompts: dict[str, Fingerprint] = {}
        """Of the requests that are being computed for another engine."""
        self._held: dict[int, int] = {}
        """Blocks of each granted lease, by token."""
        self._cause: dict[int, Cause] = {}
        """Why a revoked lease is over; one without an entry was read under the engine's own mechanism."""
        self._last_sibling: dict[str, int] = {}
        self._parent_of: dict[int, str] = {}

    @property
    def active_leases(self) -> int:
        """Leases that were granted and are not yet over."""
        return len(self._held)

    def open(self, slots: int) -> None:
        """The workers have fence tables of so many words; leases can be prepared from now on."""
        if not self.slots.count:
            self.slots = FenceSlots(slots, self.slots.workers, self.slots.draw)

    def has(self, request_id: str) -> bool:
        """Whether a lease is prepared or granted for this request, and not yet over."""
        return self.slots.of(request_id) is not None

    # -- a request comes, is scheduled, and ends -----------------------------------------------------------------

    def take_on(self, request_id: str, prompt: Fingerprint) -> None:
        """A new request, whose blocks another engine is to read.

        What it computes is taken down now: an engine may cut the prompt short where the last tokens are the reader's to
        compute, as vLLM does for Mamba.
        """
        self._prompts[request_id] = prompt

    def prepare(self, request_id: str) -> None:
        """First sight of a request whose blocks another engine is to read: arm its word before they can be offered."""
        if self.has(request_id):
            # It was preempted and comes again; its token has not left this engine.
            return
        if not self.slots.count:
            self._decline("no_producer")
        elif self._desk.died_at is not None:
            self._decline("no_agent")
        elif self.slots.take(request_id) is None:
            self._decline("no_slot")

    def _decline(self, why: str) -> None:
        self.counts[f"declined.{why}"] += 1
        bounded.warning(
            "kvlease: a prefill is not offered and will be computed again by its decode engine: %s", _DECLINED[why]
        )

    def finish(self, request_id: str, blocks: int, parent: str | None = None) -> LeaseRef | None:
        """The prefill is done: its term begins, and the reference may leave. None: it has no lease, so no offer.

        `blocks`: how many it holds. `parent`: of a request with n > 1, of whose children the client gets the reference
        of the one that finishes last; so nobody hears of the others.
        """
        prompt = self._prompts.pop(request_id, None)
        slot = self.slots.of(request_id)
        if slot is None:
            return None
        if prompt is None:
            # Its name came twice, and the first has taken it.
            self._abort(slot)
            return None
        self._desk.grant(slot.token)
        self._held[slot.token] = blocks
        self.held_blocks += blocks
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
        """The request ended, and nobody will hear of it. The engine frees its blocks; its slot waits for the workers.

        A no-op for a request that has no lease.
        """
        self._prompts.pop(request_id, None)
        slot = self.slots.of(request_id)
        if slot is not None:
            self._abort(slot)

    def _abort(self, slot: Slot) -> None:
        self._count_end(_cause(LeaseState.PREPARED, LeaseEvent.ABORT))
        self.slots.order_clear(slot.token)

    # -- a step begins and ends ----------------------------------------------------------------------------------

    def take_orders(self) -> FenceOrders:
        """What the workers are to do to their fences in this step."""
        for revoked in self._desk.take_revoked():
            if revoked.token in self._held:
                self._cause[revoked.token] = revoked.cause
                self.slots.order_clear(revoked.token)
        if self._desk.died_at is not None:
            self._take_back_all(self._desk.died_at)
        return self.slots.take_orders()

    def _take_back_all(self, died_at: float) -> None:
        """Nobody hears consumers any more: their leases end one term after the agent did."""
        if self._held and self._clock() >= died_at + self._config.duration_s:
            for token in self._held:
                self._cause.setdefault(token, _cause(LeaseState.GRANTED, LeaseEvent.EXPIRE))
                self.slots.order_clear(token)

    def hear_cleared(self, cleared: Mapping[int, int]) -> None:
        """Workers have cleared these words: slot to number of workers."""
        for slot in self.slots.hear_cleared(cleared):
            if slot.token in self._held:
                self._end(slot)

    def hear_heartbeats(self, request_ids: Iterable[str]) -> None:
        """Workers saw heartbeats of stock consumers for these requests."""
        for request_id in request_ids:
            heard = self.slots.of(request_id)
            if heard is not None:
                self._desk.extend(heard.token)

    def _end(self, slot: Slot) -> None:
        token = slot.token
        blocks = self._held.pop(token)
        self.held_blocks -= blocks
        cause = self._cause.pop(token, None)
        if cause is None:
            self._count_unfenced()
            cause = _cause(LeaseState.GRANTED, LeaseEvent.CLEAR)
        self._count_end(cause)
        if cause is not Cause.RELEASED:
            self.counts["reclaimed_blocks"] += blocks
        if cause in UNREAD:
            bounded.warning(
                "kvlease: releasing the KV blocks of request %s unread: its lease has %s",
                brief(slot.request_id),
                _ENDS[cause],
            )
        parent = self._parent_of.pop(token, None)
        if parent is not None and self._last_sibling.get(parent) == token:
            del self._last_sibling[parent]
        self._desk.cleared(token)

    def _count_unfenced(self) -> None:
        self.counts["unfenced_reads"] += 1
        bounded.warning(
            "kvlease: leased blocks were read without their fence: by a decode engine that does not run kvlease, or "
            "since a router does not pass kv_lease on"
        )

    def _count_end(self, cause: Cause) -> None:
        self.ended += 1
        self.counts[f"ends.{cause}"] += 1


def _cause(state: LeaseState, event: LeaseEvent) -> Cause:
    """Why a lease is over that ends here, without the lessor: the table says so for both."""
    _, cause = after(LEASE, state, event)
    assert cause is not None
    return cause
