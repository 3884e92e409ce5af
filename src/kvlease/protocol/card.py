"""The lease card: what a producer's side channel tells consumers about its leases (R6, R9).

vLLM's handshake listener serves one entry a worker rank; the card is one more entry, under a rank that no worker has.
"""

import msgspec

from kvlease.errors import BadMessage
from kvlease.protocol.lease import MAX_SLOTS
from kvlease.protocol.messages import MAX_ADDRESS_BYTES, U64, VERSION

CARD_RANK = (-1, -1)
"""The (pp_rank, tp_rank) under which the card is served."""
MAX_CARD_BYTES = 1 << 20


class WorkerFence(msgspec.Struct, frozen=True, array_like=True):
    """Where one worker of the producer keeps its fence table."""

    pp_rank: U64
    tp_rank: U64
    base: U64
    """Virtual address of the first word, as registered with the worker's data-plane NIXL agent."""
    slots: U64


class LeaseCard(msgspec.Struct, frozen=True, array_like=True):
    """A producer incarnation: the protocol versions it speaks, how to reach its lease agent, where its fences are."""

    versions: list[U64]
    incarnation: U64
    address: bytes
    fences: list[WorkerFence]

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, payload: bytes) -> "LeaseCard":
        """Raises `BadMessage`, kind `card`."""
        if len(payload) > MAX_CARD_BYTES:
            raise BadMessage("card", f"{len(payload)} B, at most {MAX_CARD_BYTES} are allowed")
        try:
            card = msgspec.msgpack.decode(payload, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise BadMessage("card", str(e)) from e
        if len(card.address) > MAX_ADDRESS_BYTES:
            raise BadMessage("card", f"an address of {len(card.address)} B, at most {MAX_ADDRESS_BYTES} are allowed")
        for fence in card.fences:
            if fence.slots > MAX_SLOTS or fence.base + fence.slots * 8 > 1 << 64:
                raise BadMessage("card", f"a fence table of {fence.slots} words at {fence.base:#x}, which is no memory")
        return card

    @property
    def speaks_our_version(self) -> bool:
        return VERSION in self.versions
