"""The rules for any bytes that are taken for a message, a lease card, or a side channel's reply (R6, R11, R14).

Each function takes bytes and raises when something does not hold; tests and fuzzers share them.
"""

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from kvlease.errors import BadMessage
from kvlease.protocol import LeaseCard
from kvlease.protocol.card import MAX_CARD_BYTES, MAX_VERSIONS, MAX_WORKERS
from kvlease.protocol.lease import MAX_SLOTS
from kvlease.protocol.messages import (
    MAGIC,
    MAX_ADDRESS_BYTES,
    MAX_ENGINE_ID_CHARS,
    MAX_MESSAGE_BYTES,
    VERSION,
    Message,
    decode,
    encode,
)
from kvlease.vllm.envelope import CARD_MARK, MAX_ENTRY_BYTES, card_in

PREFIX = MAGIC + bytes([VERSION])
KINDS = frozenset({"size", "magic", "encoding", "body"})
MAX_U64 = 2**64 - 1
BRIEF = 250
"""The bound of an error's text in characters, whatever came: it goes to a log."""


def body(*fields: object) -> bytes:
    """The bytes of a message with these fields, right or wrong."""
    return PREFIX + msgspec.msgpack.encode(fields)


def message_holds(data: bytes) -> None:
    """Asserts the rules for a message, of the bytes as they are and of the bytes behind a message's prefix."""
    for payload in (data, PREFIX + data):
        try:
            message = decode(payload)
        except BadMessage as error:
            _is_well_said(error, KINDS)
        else:
            _is_within_bounds(message, len(payload))
            assert decode(encode(message)) == message


def _is_within_bounds(message: Message, size: int) -> None:
    assert size <= MAX_MESSAGE_BYTES
    assert isinstance(message, Message)
    for name in message.__struct_fields__:
        value = getattr(message, name)
        match value:
            case bool():
                assert name == "reopen"
            case int():
                assert (1 if name.endswith("_ms") else 0) <= value <= MAX_U64
            case list():
                # The smallest token takes one byte, so there are never more tokens than bytes.
                assert len(value) < size
                assert all(type(token) is int and 0 <= token <= MAX_U64 for token in value)
            case str():
                assert len(value) <= MAX_ENGINE_ID_CHARS
            case bytes():
                assert len(value) <= MAX_ADDRESS_BYTES
            case _:
                raise AssertionError(f"{name} is {value!r}")


def card_holds(data: bytes) -> None:
    try:
        card = LeaseCard.decode(data)
    except BadMessage as error:
        _is_well_said(error, frozenset({"card"}))
        return
    assert len(data) <= MAX_CARD_BYTES
    assert len(card.fences) <= MAX_WORKERS
    assert len(card.versions) <= MAX_VERSIONS
    assert 0 <= card.incarnation <= MAX_U64
    assert len(card.address) <= MAX_ADDRESS_BYTES
    for fence in card.fences:
        assert fence.slots <= MAX_SLOTS
        # NIXL's binding takes the address of each of its words.
        struct.pack("<Q", fence.base + 8 * max(fence.slots - 1, 0))
    assert LeaseCard.decode(card.encode()) == card
    assert isinstance(card.speaks_our_version, bool)


def as_entry(card: bytes) -> bytes:
    """The bytes of a card's entry, as vLLM's handshake listener serves it."""
    return msgspec.msgpack.encode({"compatibility_hash": CARD_MARK, "agent_metadata_bytes": card})


def entry_holds(data: bytes) -> None:
    """Asserts the rules for a side channel's reply, of the bytes as they are and of the bytes inside a card's entry."""
    for entry in (data, as_entry(data)):
        try:
            card = card_in(entry)
        except BadMessage as error:
            _is_well_said(error, frozenset({"card"}))
        else:
            assert len(entry) <= MAX_ENTRY_BYTES
            card_holds(card.encode())


def _is_well_said(error: BadMessage, kinds: frozenset[str]) -> None:
    """Asserts that an error is counted under one of a few names, and logged in one line."""
    assert error.kind in kinds
    is_one_line(str(error))


def is_one_line(text: str) -> None:
    """Asserts that nothing that a stranger sent makes a log line long, or two lines."""
    assert len(text) < BRIEF, f"{len(text)} characters"
    assert text.isprintable(), ascii(text)


class _LineWatch(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        is_one_line(record.getMessage())


@contextmanager
def lines_watched() -> Iterator[None]:
    """Asserts of every text that is logged within that it is one short line."""
    watch, logger = _LineWatch(), logging.getLogger("kvlease")
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(watch)
    try:
        yield
    finally:
        logger.removeHandler(watch)
        logger.propagate = propagates
