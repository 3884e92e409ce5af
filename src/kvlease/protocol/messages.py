"""The messages between lease agents, and their encoding (R6, R11).

A message is a tagged array in MessagePack, prefixed with three magic bytes and the version of the encoding. Durations
are whole milliseconds, rounded up; no clock reading is ever sent. Trailing fields of a newer minor version are ignored.

It is at most `MAX_MESSAGE_BYTES` long, whatever the number of leases: libfabric cuts notifications at 8 KiB, and lists
that grow with the number of leases are sent in parts of `TOKENS_PER_MESSAGE`.
"""

import math
from typing import Annotated

import msgspec

from kvlease.errors import BadMessage

MAGIC = b"KVL"
"""The bytes that every message begins with."""
VERSION = 1
"""The version of the protocol and of its encoding: the byte after the magic."""
MAX_MESSAGE_BYTES = 8 * 1024
"""The longest message, whatever the number of leases (R11): libfabric cuts notifications here."""
TOKENS_PER_MESSAGE = (MAX_MESSAGE_BYTES - 128) // 9
"""The most tokens in one message, in all of its arrays together: a token takes at most 9 bytes, the rest under 128."""
MAX_ENGINE_ID_CHARS = 256
"""The longest name of an engine, in characters of at most 4 bytes."""
MAX_ADDRESS_BYTES = MAX_MESSAGE_BYTES - 4 * MAX_ENGINE_ID_CHARS - 128
"""The longest address, which has to fit into a Hello beside the engine's name (some 450 B, a few kilobytes with many
NICs)."""

U64 = Annotated[int, msgspec.Meta(ge=0)]
Token = U64
Milliseconds = Annotated[int, msgspec.Meta(ge=1)]


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A consumer opens a session, or opens it again after trouble."""

    version: U64
    """The version of the protocol that the consumer speaks."""
    incarnation: U64
    """The consumer's own incarnation."""
    seq: U64
    """The message's number, greater than that of any message which the consumer sent before."""
    engine_id: Annotated[str, msgspec.Meta(max_length=MAX_ENGINE_ID_CHARS)]
    """The name of the consumer's engine."""
    address: Annotated[bytes, msgspec.Meta(max_length=MAX_ADDRESS_BYTES)]
    """The address of the consumer's lease agent, in the transport's own form."""


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A producer answers a Hello with the terms for this pair."""

    version: U64
    """The version of the protocol that the producer speaks."""
    incarnation: U64
    """The producer's own incarnation."""
    hello_seq: U64
    """The `seq` of the Hello that is answered."""
    term_ms: Milliseconds
    """The term of a grant."""
    extension_ms: Milliseconds
    """The reach of a renewal: the time for which it keeps the leases of the session."""
    interval_ms: Milliseconds
    """The time between two renewals of the consumer."""
    probe_ms: Milliseconds
    """The longest silence of the producer while the consumer claims a lease."""
    session: U64 = 0
    """The number of the session that was opened."""


class Renew(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A consumer is alive, which extends every lease of the session, and says what changed since the last `seq` that
    was acknowledged."""

    seq: U64
    """The message's number, greater than that of any message which the consumer sent before, copies included."""
    claims: list[Token]
    """Leases that the session is to hold from now on."""
    drops: list[Token]
    """Leases that the consumer does not want any more, claimed by it or not."""
    session: U64 = 0
    """The session's number, from its Welcome: a session that a late copy of the Hello has opened, after the producer
    had forgotten the consumer, has not heard the claims that this message relies on."""


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A producer has applied a Renew."""

    seq: U64
    """The `seq` of the Renew."""
    unknown: list[Token]
    """The claims of the Renew that the producer does not hold (R20)."""
    reopen: bool = False
    """The producer has ended claims of this session, and asks for a new Hello and for all of them again."""


class Gone(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A producer has ended leases before their consumer let go of them."""

    tokens: list[Token]
    """The leases that have ended."""


class Probe(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """A producer sends a message without content when it sent no other, so that the transport notices a dead peer
    (R18)."""


class Bye(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Either side ends the session gracefully, and no grace is needed."""

    seq: U64 = 0
    """The number of a consumer's Bye: one that comes late must not end a session that was opened after it. A producer's
    Bye is final and carries 0, so an engine that is both knows which of its halves is meant."""


Message = Hello | Welcome | Renew | Ack | Gone | Probe | Bye
FromConsumer = Hello | Renew | Bye
FromProducer = Welcome | Ack | Gone | Probe | Bye

_PREFIX = MAGIC + bytes([VERSION])
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The bytes of `message`, at most `MAX_MESSAGE_BYTES`; senders keep their lists to `TOKENS_PER_MESSAGE`."""
    payload = _PREFIX + _encoder.encode(message)
    assert len(payload) <= MAX_MESSAGE_BYTES, f"{type(message).__name__} of {len(payload)} B: its list was not split"
    return payload


def decode(payload: bytes) -> Message:
    """The message in `payload`. Raises `BadMessage` with the kind to count: size, magic, version or body."""
    if len(payload) > MAX_MESSAGE_BYTES:
        raise BadMessage("size", f"{len(payload)} B, at most {MAX_MESSAGE_BYTES} are allowed")
    if payload[: len(MAGIC)] != MAGIC or len(payload) < len(_PREFIX):
        raise BadMessage("magic", f"starts with {payload[:4]!r}, not with {MAGIC!r}")
    if payload[len(MAGIC)] != VERSION:
        raise BadMessage("encoding", f"encoding {payload[len(MAGIC)]}, this agent speaks {VERSION}")
    try:
        message: Message = _decoder.decode(payload[len(_PREFIX) :])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise BadMessage("body", str(e)) from e
    return message


def milliseconds(duration_s: float) -> int:
    """A duration as it crosses the wire: whole milliseconds, rounded up, so that no peer is told less than is meant."""
    return max(1, math.ceil(duration_s * 1000))


def split(tokens: list[int]) -> list[list[int]]:
    """`tokens` in parts that each fit into one message; no parts for no tokens."""
    return [tokens[i : i + TOKENS_PER_MESSAGE] for i in range(0, len(tokens), TOKENS_PER_MESSAGE)]
