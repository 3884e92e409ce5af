"""The listings of an engine: its leases and its sessions, one page at a time.

They are made in the agent's thread, which owns the protocol's state. Of the producer's side, which the scheduler's
thread owns, two dicts are looked up by key, `FenceSlots.holding` and `LeasedBlocks.size`: each look-up is one operation
of the interpreter on an immutable value, and so right at some moment; nothing that could change is walked over.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from kvlease.admin.answers import ClaimingConsumer, ConsumerEntry, LeaseEntry, ProducerEntry, Sessions
from kvlease.admin.questions import MAX_LIMIT, MAX_TEXT, LeasesQuestion
from kvlease.admin.unheard import size_together
from kvlease.engine.leased_blocks import LeaseSize
from kvlease.engine.producer import ProducerSide
from kvlease.protocol import LeaseState, Lessor, Peer
from kvlease.protocol.claims import ConsumerSession
from kvlease.protocol.lease import Lease
from kvlease.protocol.states import ConsumerState
from kvlease.protocol.tracking import ProducerSession

T = TypeVar("T")
SHORT_TOKEN = 8
"""The digits of a token that are shown: enough to name a lease, and too few to read it."""


def displayed(text: str) -> str:
    """Returns what a client has written so that it can be shown: what is not printable is escaped, what is long cut."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:MAX_TEXT])
    return safe if len(text) <= MAX_TEXT else safe + "…"


def seconds(duration_s: float) -> float:
    """Returns a duration as it is shown: to the millisecond, and not below 0."""
    return max(0.0, round(duration_s, 3))


class Listing:
    """Makes the listings of one engine. Its methods are questions to the agent (`AgentCore.ask`)."""

    def __init__(
        self, rank: int, producer: ProducerSide, block_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`block_bytes`: the memory of a block on all workers together. `clock`: the agent's."""
        self._clock = clock
        self._rank = rank
        self._producer = producer
        self._block_bytes = block_bytes

    # -- leases --------------------------------------------------------------------------------------------------

    def leases(self, peer: Peer, question: LeasesQuestion) -> tuple[list[LeaseEntry], list[int], bool, int]:
        """Returns the entries of the page, the numbers of their grants, whether there are more, and how many in all.

        Nothing is made of leases that are not on the page.
        """
        after = question.after if question.after_rank == self._rank else 0
        earlier = question.after_rank > self._rank
        page: list[tuple[Lease, str, LeaseSize]] = []
        total, more = 0, False
        for found in self._matching(peer.lessor, question):
            total += 1
            if earlier or found[0].number <= after:
                continue
            if len(page) < question.limit:
                page.append(found)
            else:
                more = True
        entries = [self._entry(peer.lessor, *found, question.full_tokens) for found in page]
        return entries, [lease.number for lease, _, _ in page], more, total

    def _matching(self, lessor: Lessor, question: LeasesQuestion) -> Iterator[tuple[Lease, str, LeaseSize]]:
        # A dict keeps the order in which leases were put in, which is that of their grants.
        granted_by = lessor.time - question.min_age_s
        slots, blocks = self._producer.slots, self._producer.blocks
        for token, lease in lessor.leases.items():
            if (question.state is not None and lease.state != question.state) or lease.granted_at > granted_by:
                continue
            if question.consumer and not _is_claimed_by(lessor, lease, question.consumer):
                continue
            slot, size = slots.holding(token), blocks.size(token)
            if slot is None or size is None:
                # It has ended, and the lessor will hear so in its next turn.
                continue
            if slot.request_id.startswith(question.request):
                yield lease, slot.request_id, size

    def _entry(self, lessor: Lessor, lease: Lease, request_id: str, size: LeaseSize, whole: bool) -> LeaseEntry:
        token = f"{lease.token:016x}"
        return LeaseEntry(
            rank=self._rank,
            token=token if whole else token[:SHORT_TOKEN],
            request_id=displayed(request_id),
            state=str(lease.state),
            age_s=seconds(lessor.time - lease.granted_at),
            remaining_s=_remaining_s(lessor, lease),
            tokens=size.tokens,
            blocks=size.blocks,
            bytes=size.blocks * self._block_bytes,
            consumers=[
                ClaimingConsumer(f"{peer:016x}", displayed(lessor.sessions[peer].engine_id)) for peer in lease.claims
            ],
            cause=None if lease.cause is None else str(lease.cause),
        )

    # -- sessions ------------------------------------------------------------------------------------------------

    def sessions(self, peer: Peer) -> Sessions:
        """Returns the sessions of both kinds, the first `MAX_LIMIT` of each."""
        consumers = [self._consumer(peer.lessor, session) for session in _first(peer.lessor.sessions)]
        now = self._clock()
        producers = [self._producer_entry(session, now) for session in _first(peer.lessee.sessions)]
        return Sessions(consumers, producers)

    def _consumer(self, lessor: Lessor, session: ConsumerSession) -> ConsumerEntry:
        held = size_together(session.claims, self._producer.blocks.size)
        return ConsumerEntry(
            rank=self._rank,
            incarnation=f"{session.peer:016x}",
            engine_id=displayed(session.engine_id),
            state=str(session.state),
            silent_s=seconds(lessor.time - session.heard_at),
            remaining_s=seconds(session.deadline - lessor.time),
            claims=len(session.claims),
            tokens=held.tokens,
            blocks=held.blocks,
            bytes=held.blocks * self._block_bytes,
        )

    def _producer_entry(self, session: ProducerSession, now: float) -> ProducerEntry:
        host, port = session.endpoint
        # It holds for an extension after the last message that was acknowledged.
        acked_s = now - session.held_until + session.extension_s
        return ProducerEntry(
            rank=self._rank,
            incarnation=f"{session.producer:016x}",
            endpoint=displayed(f"{host}:{port}"),
            state=str(session.state),
            leases=len(session.leases),
            last_ack_s=seconds(acked_s) if math.isfinite(acked_s) else None,
        )


def _first(found: Mapping[int, T]) -> list[T]:
    return list(itertools.islice(found.values(), MAX_LIMIT))


def _is_claimed_by(lessor: Lessor, lease: Lease, prefix: str) -> bool:
    return any(lessor.sessions[peer].engine_id.startswith(prefix) for peer in lease.claims)


def _remaining_s(lessor: Lessor, lease: Lease) -> float | None:
    """Returns how long it is held if nobody is heard any more: by its own term, by its last claim, up to its age."""
    if lease.state is LeaseState.LAPSED:
        return None
    claims = [lessor.sessions[peer] for peer in lease.claims]
    if claims and all(session.state is ConsumerState.DEAD for session in claims):
        until = max(session.deadline for session in claims)
    else:
        until = max([lease.deadline, *(session.deadline for session in claims)])
    oldest = lease.granted_at + lessor.config.max_age_s
    return seconds(min(until, oldest) - lessor.time)
