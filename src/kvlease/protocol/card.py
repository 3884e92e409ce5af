"""The lease card: what a producer's side channel tells consumers about its leases (R6, R9).

vLLM's handshake listener serves one entry a worker rank; the card is one more entry, under a rank that no worker has.
"""

from typing import Annotated

import msgspec

from kvlease.errors import BadMessage
from kvlease.protocol.lease import MAX_SLOTS
from kvlease.protocol.messages import MAX_ADDRESS_BYTES, U64, VERSION

CARD_RANK = (-1, -1)
"""The (pp_rank, tp_rank) under which the card is served."""
CARD_MARK = "kvlease-card"
"""Stands in an entry of the handshake listener where a stock entry has its compatibility hash."""
MAX_CARD_BYTES = 1 << 18
MAX_ENTRY_BYTES = MAX_CARD_BYTES + 1024
MAX_WORKERS = 4096
"""Of one engine. A card with as many takes a third of what is allowed."""
MAX_VERSIONS = 64


class WorkerFence(msgspec.Struct, frozen=True, array_like=True):
    """Where one worker of the producer keeps its fence table."""

    pp_rank: U64
    tp_rank: U64
    base: U64
    """Virtual address of the first word, as registered with the worker's data-plane NIXL agent."""
    slots: U64


class _Entry(msgspec.Struct):
    """vLLM's `NixlHandshakePayload`, as it is written down."""

    compatibility_hash: str
    agent_metadata_bytes: bytes


class LeaseCard(msgspec.Struct, frozen=True, array_like=True):
    """A producer incarnation: the protocol versions it speaks, how to reach its lease agent, where its fences are."""

    versions: Annotated[list[U64], msgspec.Meta(max_length=MAX_VERSIONS)]
    incarnation: U64
    address: bytes
    fences: Annotated[list[WorkerFence], msgspec.Meta(max_length=MAX_WORKERS)]

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

    @classmethod
    def in_entry(cls, entry: bytes) -> "LeaseCard":
        """The card in an entry of a handshake listener, which serves other things, too. Raises `BadMessage`."""
        if len(entry) > MAX_ENTRY_BYTES:
            raise BadMessage("card", f"an entry of {len(entry)} B, at most {MAX_ENTRY_BYTES} are allowed")
        try:
            wrapped = msgspec.msgpack.decode(entry, type=_Entry)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise BadMessage("card", str(e)) from e
        if wrapped.compatibility_hash != CARD_MARK:
            raise BadMessage("card", "something else is served where a lease card should be")
        return cls.decode(wrapped.agent_metadata_bytes)

    @property
    def speaks_our_version(self) -> bool:
        return VERSION in self.versions
