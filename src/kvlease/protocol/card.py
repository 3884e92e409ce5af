"""The lease card, which tells consumers how to reach a producer's lease agent and its fences (R6, R9)."""

from typing import Annotated

import msgspec

from kvlease.errors import BadMessage
from kvlease.protocol.lease import MAX_SLOTS
from kvlease.protocol.messages import MAX_ADDRESS_BYTES, U64, VERSION

Endpoint = tuple[str, int]
"""Host and port of an engine's side channel."""
MAX_CARD_BYTES = 1 << 18
"""The longest card: one with as many workers and versions as are allowed is shorter."""
MAX_WORKERS = 4096
"""The most workers of one engine."""
MAX_VERSIONS = 64
"""The most versions of the protocol that one engine speaks."""


class WorkerFence(msgspec.Struct, frozen=True, array_like=True):
    """The place of one producer worker's fence table."""

    pp_rank: U64
    """The worker's rank in pipeline parallelism."""
    tp_rank: U64
    """The worker's rank in tensor parallelism."""
    base: U64
    """Virtual address of the first word, as registered with the worker's data agent."""
    slots: Annotated[int, msgspec.Meta(ge=0, le=MAX_SLOTS)]
    """The number of words; the table ends within the address space."""


class LeaseCard(msgspec.Struct, frozen=True, array_like=True):
    """A producer incarnation: the protocol versions it speaks, how to reach its lease agent, where its fences are."""

    versions: Annotated[list[U64], msgspec.Meta(max_length=MAX_VERSIONS)]
    """Versions of the protocol that the producer speaks."""
    incarnation: U64
    """The producer's own incarnation."""
    address: Annotated[bytes, msgspec.Meta(max_length=MAX_ADDRESS_BYTES)]
    """The address of the producer's lease agent, in the transport's own form."""
    fences: Annotated[list[WorkerFence], msgspec.Meta(max_length=MAX_WORKERS)]
    """The places of its workers' fence tables."""

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, payload: bytes) -> "LeaseCard":
        """Returns the card in `payload`. Raises `BadMessage`, kind `card`."""
        if len(payload) > MAX_CARD_BYTES:
            raise BadMessage("card", f"{len(payload)} B, at most {MAX_CARD_BYTES} are allowed")
        try:
            card = msgspec.msgpack.decode(payload, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise BadMessage("card", str(e)) from e
        for fence in card.fences:
            if fence.base + fence.slots * 8 > 1 << 64:
                raise BadMessage("card", f"a fence table of {fence.slots} words at {fence.base:#x}, which is no memory")
        return card

    @property
    def speaks_our_version(self) -> bool:
        return VERSION in self.versions
