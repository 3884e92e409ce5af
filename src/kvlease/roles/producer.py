"""A producer's scheduler: a lease from its preparation to the last worker's report."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from kvlease.agent.core import AgentCore
from kvlease.fence.ledger import NO_ORDERS, FenceLedger, FenceOrders, Word, draw_token
from kvlease.logs import bounded_logger
from kvlease.protocol import Cause, Fingerprint, LeaseConfig, LeaseRef
from kvlease.protocol.lease import brief
from kvlease.protocol.messages import milliseconds

if TYPE_CHECKING:
    from vllm.v1.request import Request

bounded = bounded_logger(__name__)

UNREAD = (Cause.EXPIRED, Cause.ORPHANED, Cause.AGED_OUT)
"""Ends after which nobody has read the blocks, or nobody that is known to: what vLLM counts and logs as an expiry."""
_ENDS = {
    Cause.EXPIRED: "expired",
    Cause.ORPHANED: "lost its dead consumer, and nobody took over",
    Cause.AGED_OUT: "reached its maximum age",
}
_CHILD = re.compile(r"\d+_(.+)", re.DOTALL)


class ProducerSide:
    """Prepares leases, grants them, has their words cleared when they are over, and counts what is held."""

    def __init__(
        self,
        config: LeaseConfig,
        agent: AgentCore,
        workers: int,
        fingerprint: "Callable[[Request], Fingerprint]",
        *,
        draw: Callable[[], int] = draw_token,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fingerprint` says what a request's prompt is, before anything of it is cut; `draw` gives tokens
        (`fence.ledger.draw_token`), `clock` monotonic seconds, the agent's own."""
        self.counts: Counter[str] = Counter()
        """Events since the start: declined.<why>, ends.<cause>, reclaimed_blocks, unfenced_reads, refused.handshake."""
        self.ended = 0
        """Leases that ended since the start, those that were never granted included."""
        self.held_blocks = 0
        """Blocks of leases that were granted and not yet freed."""
        self._config = config
        self._agent = agent
        self._workers = workers
        self._fingerprint = fingerprint
        self._draw = draw
        self._clock = clock
        self._ledger: FenceLedger | None = None
        self._prompts: dict[str, Fingerprint] = {}
        """Of the requests that are being computed for another engine."""
        self._held: dict[int, int] = {}
        """Blocks of each granted lease, by token."""
        self._cause: dict[int, Cause] = {}
        """Why a revoked lease is over; one without an entry was read under vLLM's own mechanism."""
        self._last_sibling: dict[str, int] = {}
        self._parent_of: dict[int, str] = {}

    @property
    def active_leases(self) -> int:
        return len(self._held)

    @property
    def slots_used(self) -> int:
        return 0 if self._ledger is None else len(self._ledger)

    @property
    def has_orders(self) -> bool:
        """Whether the workers are to arm or clear anything that they have not been told of."""
        return self._ledger is not None and self._ledger.has_orders

    def open(self, slots: int) -> None:
        """The workers have fence tables of `slots` words; leases can be prepared from now on."""
        if self._ledger is None:
            self._ledger = FenceLedger(slots, self._workers, self._draw)

    def has(self, request_id: str) -> bool:
        """Whether a lease is prepared or granted for this request, and not yet over."""
        return self._ledger is not None and self._ledger.word(request_id) is not None

    def take_on(self, request: "Request") -> None:
        """A new request, whose blocks another engine is to read.

        What it computes is taken down now: an engine may cut the prompt short where the last tokens are the reader's to
        compute, as vLLM does for Mamba.
        """
        self._prompts[request.request_id] = self._fingerprint(request)

    def take_prompt(self, request_id: str) -> Fingerprint | None:
        """What the request was to compute, now that it has ended; None for one that was never taken on."""
        return self._prompts.pop(request_id, None)

    def prepare(self, request_id: str) -> None:
        """First sight of a request whose blocks another engine is to read: arm its word before they can be offered."""
        if self.has(request_id):
            # It was preempted and comes again; its token has not left this engine.
            return
        if self._ledger is None:
            self._decline("no_producer")
        elif self._agent.died_at is not None:
            self._decline("no_agent")
        elif self._ledger.prepare(request_id) is None:
            self._decline("no_slot")

    def _decline(self, why: str) -> None:
        self.counts[f"declined.{why}"] += 1
        reason = {
            "no_slot": "all fence slots are in use; raise kv_lease_fence_slots",
            "no_producer": "the workers of this engine have no fence",
            "no_agent": "the lease agent of this engine is not running",
        }[why]
        bounded.warning("kvlease: a prefill is not offered and will be computed again by its decode engine: %s", reason)

    def grant(self, request: "Request", prompt: Fingerprint, block_ids: tuple[list[int], ...]) -> LeaseRef:
        """The prefill of this prompt is done: the term begins, and the reference may leave.

        `block_ids`: of each KV cache group.
        """
        assert self._ledger is not None
        word = self._ledger.word(request.request_id)
        assert word is not None
        self._agent.grant(word.token)
        # Block 0 stands for what a sliding window has let go of.
        blocks = sum(1 for group in block_ids for block in group if block)
        self._held[word.token] = blocks
        self.held_blocks += blocks
        self._supersede_sibling(request, word.token)
        return LeaseRef(self._agent.incarnation, word.token, word.slot, milliseconds(self._config.duration_s), prompt)

    def _supersede_sibling(self, request: "Request", token: int) -> None:
        """A prefill with n > 1 returns the reference of the child that finished last: nobody hears of the others."""
        child = _CHILD.fullmatch(request.request_id)
        if child is None or not answers_once(request):
            return
        parent = child[1]
        earlier = self._last_sibling.get(parent)
        self._last_sibling[parent] = token
        self._parent_of[token] = parent
        if earlier is not None:
            self._agent.abort(earlier)

    def abort(self, request_id: str) -> None:
        """The request ended without anything to offer. vLLM frees its blocks; its slot waits for the workers."""
        assert self._ledger is not None
        word = self._ledger.word(request_id)
        assert word is not None
        self._count_end(Cause.ABORTED)
        self._ledger.clear(word.token)

    def take_orders(self) -> FenceOrders:
        """What the workers are to do to their fences in this step."""
        if self._ledger is None:
            return NO_ORDERS
        for revoked in self._agent.take_revoked():
            if revoked.token in self._held:
                self._cause[revoked.token] = revoked.cause
                self._ledger.clear(revoked.token)
        if self._agent.died_at is not None:
            self._take_back_all(self._agent.died_at)
        return self._ledger.take_orders()

    def _take_back_all(self, died_at: float) -> None:
        """Nobody hears consumers any more: their leases end one term after the agent did."""
        assert self._ledger is not None
        if self._held and self._clock() >= died_at + self._config.duration_s:
            for token in self._held:
                self._cause.setdefault(token, Cause.EXPIRED)
                self._ledger.clear(token)

    def hear_cleared(self, cleared: Mapping[int, int]) -> None:
        """Workers have cleared these slots: slot to number of workers."""
        if self._ledger is None:
            return
        for word in self._ledger.report(cleared):
            if word.token in self._held:
                self._end(word)

    def hear_heartbeats(self, request_ids: Iterable[str]) -> None:
        """Workers saw heartbeats of stock consumers for these requests."""
        if self._ledger is None:
            return
        for request_id in request_ids:
            heard = self._ledger.word(request_id)
            if heard is not None:
                self._agent.extend(heard.token)

    def _end(self, word: Word) -> None:
        token = word.token
        blocks = self._held.pop(token)
        self.held_blocks -= blocks
        cause = self._cause.pop(token, None)
        if cause is None:
            self._count_unfenced()
            cause = Cause.RELEASED
        self._count_end(cause)
        if cause is not Cause.RELEASED:
            self.counts["reclaimed_blocks"] += blocks
        if cause in UNREAD:
            bounded.warning(
                "kvlease: releasing the KV blocks of request %s unread: its lease has %s",
                brief(word.request_id),
                _ENDS[cause],
            )
        parent = self._parent_of.pop(token, None)
        if parent is not None and self._last_sibling.get(parent) == token:
            del self._last_sibling[parent]
        self._agent.ended(token)

    def _count_unfenced(self) -> None:
        self.counts["unfenced_reads"] += 1
        bounded.warning(
            "kvlease: leased blocks were read without their fence: by a decode engine that does not run kvlease, or "
            'since a router does not pass kv_transfer_params["kv_lease"] on'
        )

    def _count_end(self, cause: Cause) -> None:
        self.ended += 1
        self.counts[f"ends.{cause}"] += 1


def answers_once(request: "Request") -> bool:
    """Whether the client gets one answer when all that it asked for is done, and so one reference."""
    kind = getattr(request.sampling_params, "output_kind", None)
    return getattr(kind, "name", None) == "FINAL_ONLY"
