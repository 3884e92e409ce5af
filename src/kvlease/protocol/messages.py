"""What crosses the wire between lease agents, and how it is written down (R6, R11).

MessagePack, each message a tagged array, prefixed with three magic bytes and the version of the encoding. Durations are
whole milliseconds, rounded up; no clock reading ever travels. Trailing fields of a newer minor version are ignored.

A message is at most `MAX_MESSAGE_BYTES`, whatever the number of leases: libfabric cuts notifications at 8 KiB, and what
grows with the number of leases is sent in parts of `TOKENS_PER_MESSAGE`.
"""

import math
from typing import Annotated

import msgspec

from kvlease.errors import BadMessage

MAGIC = b"KVL"
VERSION = 1
MAX_MESSAGE_BYTES = 8 * 1024
# A u64 takes at most 9 bytes in MessagePack; the rest of a message needs well under 128.
TOKENS_PER_MESSAGE = (MAX_MESSAGE_BYTES - 128) // 9
MAX_ENGINE_ID_CHARS = 256
# An address (NIXL: some 450 B, a few kilobytes with many NICs) has to fit into a Hello beside the engine's name, a
# character of which takes at most 4 bytes.
MAX_ADDRESS_BYTES = MAX_MESSAGE_BYTES - 4 * MAX_ENGINE_ID_CHARS - 128

U64 = Annotated[int, msgspec.Meta(ge=0)]
Token = U64
Milliseconds = Annotated[int, msgspec.Meta(ge=1)]


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Consumer: opens a session, or opens it again after trouble. `seq` outranks whatever the consumer sent before."""

    version: U64
    incarnation: U64
    seq: U64
    engine_id: Annotated[str, msgspec.Meta(max_length=MAX_ENGINE_ID_CHARS)]
    address: Annotated[bytes, msgspec.Meta(max_length=MAX_ADDRESS_BYTES)]


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Producer: the terms for this pair. `hello_seq` says which Hello is answered, `session` what was opened."""

    version: U64
    incarnation: U64
    hello_seq: U64
    term_ms: Milliseconds
    extension_ms: Milliseconds
    interval_ms: Milliseconds
    probe_ms: Milliseconds
    session: U64 = 0


class Renew(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Consumer: alive, and what changed since the last acknowledged `seq`. It extends every lease of the session.

    `session` is the number from the Welcome: a session that a late copy of the Hello opened, after the producer had
    forgotten the consumer, never heard the claims that this message relies on.
    """

    seq: U64
    claims: list[Token]
    drops: list[Token]
    session: U64 = 0


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Producer: `seq` is applied; of its claims, `unknown` are not held here (R20).

    `reopen` asks for a new Hello: the producer has ended claims of this session and wants all of them stated again.
    """

    seq: U64
    unknown: list[Token]
    reopen: bool = False


class Gone(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Producer: these leases ended before their consumer let go of them."""

    tokens: list[Token]


class Probe(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Producer: says nothing; sent when nothing else was, so that the transport notices a dead peer (R18)."""


class Bye(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Either: a graceful end, no grace needed.

    A consumer's carries its `seq`: one that comes late must not end the session that was opened after it. A producer's
    is final and carries 0, so an engine that is both knows which of its halves is meant.
    """

    seq: U64 = 0


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
