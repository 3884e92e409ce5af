"""The lease's part of a producer's scheduler: each lease from its preparation to the last worker's report."""

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
"""The ends of leases whose blocks nobody is known to have read."""
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
    """Prepares leases, grants them, has their words cleared when they are over, and counts held blocks.

    Attributes: `slots`: those of the fence, none until the workers have tables (`open`). `counts`: events since the
    start: declined.<why>, ends.<cause>, reclaimed_blocks, unfenced_reads. `ended`: leases that ended since the start,
    those that were never granted included. `held_blocks`: blocks of leases that were granted and not yet freed.
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
        """`draw` gives tokens (`fence.slots.draw_token`); `clock`, the agent's, gives monotonic seconds."""
        self.counts: Counter[str] = Counter()
        self.ended = 0
        self.held_blocks = 0
        self.slots = FenceSlots(0, workers, draw)
        self._config = config
        self._desk = desk
        self._clock = clock
        self._prompts: dict[str, Fingerprint] = {}
        """The prompts of the requests that are being computed for another engine."""
        self._held: dict[int, int] = {}
        """The number of blocks of each granted lease, by token."""
        self._cause: dict[int, Cause] = {}
        """The cause of each revoked lease's end; a lease without one was read under the engine's own mechanism."""
        self._last_sibling: dict[str, int] = {}
        self._parent_of: dict[int, str] = {}

    @property
    def active_leases(self) -> int:
        """The number of leases that were granted and are not yet over."""
        return len(self._held)

    def open(self, slots: int) -> None:
        """The workers have fence tables of `slots` words each: leases can be prepared from now on."""
        if not self.slots.count:
            self.slots = FenceSlots(slots, self.slots.workers, self.slots.draw)

    def has(self, request_id: str) -> bool:
        """Tells whether a lease is prepared or granted for this request, and not yet over."""
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
        if self.has(request_id):
            # It was preempted and is scheduled again; its token has not left this engine.
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
        """Grants the lease of a prefill that is done, and returns its reference; None if it has no lease, so no offer.

        `blocks`: their number. `parent`: of a request with n > 1, whose client gets the reference of the child that
        finishes last; so nobody is told of the others.
        """
        prompt = self._prompts.pop(request_id, None)
        slot = self.slots.of(request_id)
        if slot is None:
            return None
        if prompt is None:
            # Two requests had this name, and the first one has taken the prompt.
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
        """The request ended, and nobody will be told of it. The engine frees its blocks; the workers clear its word.

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
        """Returns the orders to the workers for their fence tables in this step."""
        for revoked in self._desk.take_revoked():
            if revoked.token in self._held:
                self._cause[revoked.token] = revoked.cause
                self.slots.order_clear(revoked.token)
        if self._desk.died_at is not None:
            self._take_back_all(self._desk.died_at)
        return self.slots.take_orders()

    def _take_back_all(self, died_at: float) -> None:
        """Ends all leases one term after the agent's death, since nobody hears their consumers any more."""
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
        """Workers have seen heartbeats of stock consumers for these requests."""
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
    """Returns the cause of an end that is decided here, without the lessor, from the table that both use."""
    _, cause = after(LEASE, state, event)
    assert cause is not None
    return cause
