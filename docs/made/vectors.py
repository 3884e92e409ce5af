"""Test vectors for those who implement the protocol elsewhere: whole files of JSON.

Integers are written in full, up to 2^64 - 1: read them as u64. Bytes are hex.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from docs.made.messages import KINDS, smallest
from kvlease.protocol import Fingerprint, LeaseCard, LeaseRef, WorkerFence
from kvlease.protocol.card import MAX_VERSIONS
from kvlease.protocol.lease import MAX_SLOTS, MAX_TERM_MS, MAX_TOKENS, REF_VERSION
from kvlease.protocol.messages import (
    MAGIC,
    MAX_ADDRESS_BYTES,
    VERSION,
    Ack,
    Bye,
    Gone,
    Hello,
    Message,
    Probe,
    Renew,
    Welcome,
    encode,
)
from kvlease.protocol.prompt import Media, fingerprint

FOLDER = Path(__file__).parents[1] / "protocol" / "vectors"
PREFIX = MAGIC + bytes([VERSION])


def _body(kind: type[Message], *fields: object) -> bytes:
    """The encoded array of a message's tag and these fields, which may be wrong."""
    return msgspec.msgpack.encode([kind.__struct_config__.tag, *fields])


WIDTHS = [1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1]
"""The largest integer of each width that MessagePack writes integers in, and the smallest of the next width."""

MESSAGES: tuple[Message, ...] = (
    *(smallest(kind) for kind in KINDS),
    Hello(VERSION, 0x0123456789ABCDEF, 1, "decode-0", b"address of the agent"),
    Hello(VERSION, 2**64 - 1, 2**53 + 1, "d\u00e9code \u2013 \U0001f300", bytes(range(256))),
    Welcome(VERSION, 0xFEDCBA9876543210, 1, 30_000, 20_000, 5_000, 250, 7),
    Renew(2, WIDTHS, [], 7),
    Renew(3, [], WIDTHS, 7),
    Renew(4, list(range(1, 17)), list(range(17, 33)), 2**64 - 1),
    Ack(2, [], False),
    Ack(3, WIDTHS, True),
    Gone(WIDTHS),
    Bye(2**64 - 1),
)
"""Messages that an implementation has to write and to read."""

READ_ONLY: tuple[tuple[str, type[Message], list[Any]], ...] = (
    ("the session is left out", Welcome, [1, 2, 3, 4, 5, 6, 7]),
    ("the session is left out", Renew, [1, [2], [3]]),
    ("reopen is left out", Ack, [1, [2]]),
    ("the seq is left out", Bye, []),
    ("a field of a newer minor version follows", Probe, ["new"]),
    ("a field of a newer minor version follows", Renew, [1, [2], [3], 4, ["new"]]),
    ("a field of a newer minor version follows", Bye, [1, msgspec.msgpack.Ext(7, b"\xff")]),
)
"""Messages that have to be read, though this version never writes them: why, the kind, the array behind its tag."""

REFUSED: tuple[tuple[str, bytes], ...] = (
    ("magic", b""),
    ("magic", MAGIC),
    ("magic", b"KVM" + bytes([VERSION]) + _body(Probe)),
    ("encoding", MAGIC + bytes([VERSION + 1]) + _body(Probe)),
    ("body", PREFIX),
    ("body", PREFIX + msgspec.msgpack.encode([len(KINDS) + 1])),
    ("body", PREFIX + _body(Gone, [-1])),
    ("body", PREFIX + _body(Gone, ["1"])),
    ("body", PREFIX + _body(Gone, [1.0])),
    ("body", PREFIX + _body(Bye, True)),
    ("body", PREFIX + _body(Ack, 1)),
    ("body", PREFIX + _body(Welcome, 1, 2, 3, 0, 5, 6, 7)),
    ("body", PREFIX + _body(Probe) + b"\x00"),
)
"""Bytes that are refused, after the kind under which they are counted (`kvlease:refused_total`)."""

REFERENCES = (
    LeaseRef(0x0123456789ABCDEF, 0xFEDCBA9876543210, 5, 30_000, Fingerprint(5, 0x918D9BF60AF26A20, 0)),
    LeaseRef(0, 1, 0, 1, Fingerprint(1, 0, 0)),
    LeaseRef(2**64 - 1, 2**64 - 1, MAX_SLOTS - 1, MAX_TERM_MS, Fingerprint(MAX_TOKENS, 2**64 - 1, 2**64 - 1)),
)

REFUSED_REFERENCES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("another version", {"version": REF_VERSION + 1}),
    ("a token that no lease has", {"token": "0" * 16}),
    ("upper-case digits", {"token": "FEDCBA9876543210"}),
    ("too few digits", {"incarnation": "123456789abcdef"}),
    ("a number where digits belong", {"prompt_digest": 1}),
    ("a slot beyond every table", {"slot": MAX_SLOTS}),
    ("no number", {"slot": True}),
    ("no term", {"term_ms": 0}),
    ("a term of more than a day", {"term_ms": MAX_TERM_MS + 1}),
    ("no prompt", {"prompt_tokens": 0}),
    ("a key that is missing", {"prompt_media": None}),
)
"""References that are refused: why, and the keys that differ from the first one that is read; None: left out."""

CARD = LeaseCard(
    [VERSION],
    0x0123456789ABCDEF,
    b"address of the agent",
    [WorkerFence(0, 0, 1 << 47, 8192), WorkerFence(0, 1, 4096, 64)],
)

_BEHIND = [[VERSION], 1, b"address", [[0, 0, 4096, 64, "new"]], "new"]
"""A card with fields of a newer minor version."""
REFUSED_CARDS: tuple[tuple[str, list[Any]], ...] = (
    ("no fences", [[VERSION], 1, b"address"]),
    ("an address that is text", [[VERSION], 1, "address", []]),
    ("more versions than are allowed", [[VERSION] * (MAX_VERSIONS + 1), 1, b"address", []]),
    ("a longer address than is allowed", [[VERSION], 1, bytes(MAX_ADDRESS_BYTES + 1), []]),
    ("a larger table than is allowed", [[VERSION], 1, b"address", [[0, 0, 4096, MAX_SLOTS + 1]]]),
    ("a table beyond the address space", [[VERSION], 1, b"address", [[0, 0, 2**64 - 8, 2]]]),
)
"""Arrays that are no card, and why."""

IDS = [1, 255, 256, 70_000, 2**31]
PROMPTS: tuple[dict[str, Any], ...] = (
    {"token_ids": IDS, "tokens": 5},
    {"token_ids": [], "tokens": 1},
    {"token_ids": IDS, "tokens": 5, "adapter": "sql", "salt": "tenant"},
    {"token_ids": IDS, "tokens": 5, "adapter": "", "salt": ""},
    {"token_ids": None, "tokens": 3, "embeddings": bytes(range(32))},
    {"token_ids": IDS, "tokens": 5, "media": [Media("a1b2", 1, 3), Media("\u00e9", 4, 1)]},
    {
        "token_ids": IDS,
        "tokens": 5,
        "adapter": "sql",
        "salt": "tenant",
        "media": [Media("a1b2", 1, 3)],
        "embeddings": b"\x01" * 32,
        "mask": b"\x01\x00\x01\x01\x01",
    },
)
"""Prompts, as `fingerprint` takes them."""


def messages() -> str:
    """Messages that are written and read, messages that are only read, and bytes that are refused."""
    both = [_message(message) | {"hex": encode(message).hex()} for message in MESSAGES]
    read = [
        {"why": why}
        | _message(kind(*fields[: len(kind.__struct_fields__)]))
        | {"hex": (PREFIX + _body(kind, *fields)).hex()}
        for why, kind, fields in READ_ONLY
    ]
    refused = [{"kind": kind, "hex": payload.hex()} for kind, payload in REFUSED]
    return _json({"write_and_read": both, "read": read, "refuse": refused})


def cards() -> str:
    """Lease cards and their bytes, and bytes that are no card."""
    behind = msgspec.msgpack.encode(_BEHIND)
    refused = [{"why": why, "hex": msgspec.msgpack.encode(array).hex()} for why, array in REFUSED_CARDS]
    return _json(
        {
            "write_and_read": [{"card": _plain(CARD), "hex": CARD.encode().hex()}],
            "read": [
                {
                    "why": "fields of a newer minor version follow",
                    "card": _plain(LeaseCard.decode(behind)),
                    "hex": behind.hex(),
                }
            ],
            "refuse": refused,
        }
    )


def references() -> str:
    """References, and how they stand in `kv_transfer_params`; and such as are refused."""
    rows = [{"reference": _plain(asdict(reference)), "kv_lease": reference.to_params()} for reference in REFERENCES]
    return _json({"references": rows, "refuse": [_refused(*row) for row in REFUSED_REFERENCES]})


def fingerprints() -> str:
    """Prompts and their fingerprints."""
    rows = [{"prompt": _plain(prompt), "fingerprint": asdict(fingerprint(**prompt))} for prompt in PROMPTS]
    return _json({"fingerprints": rows})


FILES: dict[Path, Callable[[], str]] = {
    FOLDER / "messages.json": messages,
    FOLDER / "cards.json": cards,
    FOLDER / "references.json": references,
    FOLDER / "fingerprints.json": fingerprints,
}


def _message(message: Message) -> dict[str, Any]:
    return {"message": type(message).__name__, "fields": _plain(message)}


def _refused(why: str, other: dict[str, Any]) -> dict[str, Any]:
    params = REFERENCES[0].to_params() | other
    return {"why": why, "kv_lease": {key: value for key, value in params.items() if value is not None}}


def _plain(value: object) -> Any:
    """A value as JSON has it: bytes in hex, a struct as an object, even where it is an array on the wire."""
    match value:
        case bytes():
            return value.hex()
        case msgspec.Struct():
            return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        case Media():
            return asdict(value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {name: _plain(item) for name, item in value.items()}
    return value


def _json(lists: dict[str, list[dict[str, Any]]]) -> str:
    """An object of lists, each vector in a line of its own."""
    parts = (f'"{name}": [\n' + ",\n".join(map(json.dumps, vectors)) + "\n]" for name, vectors in lists.items())
    return "{\n" + ",\n".join(parts) + "\n}\n"
