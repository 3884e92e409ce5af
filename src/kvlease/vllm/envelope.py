"""The lease card as an entry of vLLM's handshake listener, which serves one entry a worker rank (R6).

It stands under a rank that no worker has.
"""

import msgspec

from kvlease.errors import BadMessage
from kvlease.protocol.card import MAX_CARD_BYTES, LeaseCard

CARD_RANK = (-1, -1)
"""The (pp_rank, tp_rank) under which the card is served."""
CARD_MARK = "kvlease-card"
"""The mark in a card's entry, where a stock entry has its compatibility hash."""
MAX_ENTRY_BYTES = MAX_CARD_BYTES + 1024
"""The longest entry of a handshake listener that is read as a card."""


class _Entry(msgspec.Struct):
    """The encoded form of vLLM's `NixlHandshakePayload`."""

    compatibility_hash: str
    agent_metadata_bytes: bytes


def card_in(entry: bytes) -> LeaseCard:
    """Returns the card in an entry of a handshake listener, which serves other entries, too. Raises `BadMessage`."""
    if len(entry) > MAX_ENTRY_BYTES:
        raise BadMessage("card", f"an entry of {len(entry)} B, at most {MAX_ENTRY_BYTES} are allowed")
    try:
        wrapped = msgspec.msgpack.decode(entry, type=_Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise BadMessage("card", str(e)) from e
    if wrapped.compatibility_hash != CARD_MARK:
        raise BadMessage("card", "something else is served where a lease card should be")
    return LeaseCard.decode(wrapped.agent_metadata_bytes)
