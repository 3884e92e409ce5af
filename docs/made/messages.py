"""The messages and the card: types and sizes, from the structs that encode them (`kvlease.protocol`)."""

from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec
from msgspec import inspect

from docs.made.markdown import code, table
from docs.made.meanings import documented, meaning
from kvlease.protocol import LeaseCard, WorkerFence
from kvlease.protocol.messages import TOKENS_PER_MESSAGE, FromConsumer, FromProducer, Message, encode

KINDS: tuple[type[Message], ...] = get_args(Message)
_U64 = (1 << 64) - 1


def messages() -> Iterator[str]:
    """Every message, with its sizes."""
    head = ("tag", "message", "from", "bytes", "meaning")
    return table(head, (_row(kind) for kind in KINDS))


def fields() -> Iterator[str]:
    """Every field of every message, in the order of the wire, after the tag."""
    yield "A uint has up to 64 bits."
    yield f"The arrays of tokens in a message have at most {TOKENS_PER_MESSAGE} together."
    yield ""
    yield from _fields("message", KINDS)


def card() -> Iterator[str]:
    """The lease card, which is an array of its fields, and its size."""
    yield from _fields("array", (LeaseCard, WorkerFence))
    yield ""
    yield f"A card is {_bytes(LeaseCard.encode(smallest(LeaseCard)), LeaseCard.encode(largest(LeaseCard)))} bytes long."


def smallest(kind: type) -> Any:
    """A message or a card with the fewest bytes."""
    return kind(*(_smallest(field.type) for field in _struct(kind).fields))


def largest(kind: type, tokens: int = TOKENS_PER_MESSAGE) -> Any:
    """A message or a card with the most bytes. Arrays without a bound of their own have `tokens` elements together."""
    given = _struct(kind).fields
    unbounded = sum(_is_unbounded(field.type) for field in given) or 1
    return kind(*(_largest(field.type, tokens // unbounded) for field in given))


def _row(kind: type[Message]) -> tuple[str, str, str, str, str]:
    sides = [
        name for name, union in (("consumer", FromConsumer), ("producer", FromProducer)) if kind in get_args(union)
    ]
    size = _bytes(encode(smallest(kind)), encode(largest(kind)))
    return str(_struct(kind).tag), kind.__name__, " or ".join(sides), size, meaning(kind)


def _bytes(least: bytes, most: bytes) -> str:
    return f"{len(least):,} to {len(most):,}" if len(least) < len(most) else f"{len(least):,}"


def _fields(title: str, kinds: Iterable[type]) -> Iterator[str]:
    rows = (
        (kind.__name__, code(field.name), _type(field), said)
        for kind in kinds
        for field, said in zip(_struct(kind).fields, documented(kind).values(), strict=True)
    )
    return table((title, "field", "type", "meaning"), rows)


def _struct(kind: type) -> inspect.StructType:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType), described
    return described


def _type(field: inspect.Field) -> str:
    left_out = "" if field.required else f"; {msgspec.json.encode(field.default).decode()} where it is left out"
    return _describe(field.type) + left_out


def _describe(described: inspect.Type) -> str:
    match described:
        case inspect.IntType(le=int(most)):
            return f"uint, at most {most:,}"
        case inspect.IntType(ge=1):
            return "uint, at least 1"
        case inspect.IntType():
            return "uint"
        case inspect.BoolType():
            return "bool"
        case inspect.StrType(max_length=most):
            return f"str, at most {most:,} characters"
        case inspect.BytesType(max_length=most):
            return f"bin, at most {most:,} bytes"
        case inspect.ListType(item_type=item, max_length=None):
            return f"array of {_describe(item)}"
        case inspect.ListType(item_type=item, max_length=most):
            return f"array of {_describe(item)}, at most {most:,}"
        case inspect.StructType(cls=kind):
            return kind.__name__
    raise ValueError(f"no words for {described}: say how it looks on the wire")


def _smallest(described: inspect.Type) -> Any:
    match described:
        case inspect.IntType(ge=least):
            return least
        case inspect.BoolType():
            return False
        case inspect.StrType():
            return ""
        case inspect.BytesType():
            return b""
        case inspect.ListType():
            return []
    raise ValueError(f"no smallest value of {described}")


def _largest(described: inspect.Type, items: int) -> Any:
    match described:
        case inspect.IntType(le=most):
            return _U64 if most is None else most
        case inspect.BoolType():
            return True
        case inspect.StrType(max_length=int(most)):
            return "\U0010ffff" * most
        case inspect.BytesType(max_length=int(most)):
            return b"\xff" * most
        case inspect.ListType(item_type=item, max_length=most):
            return [_largest(item, items)] * (items if most is None else most)
        case inspect.StructType(cls=kind):
            return largest(kind)
    raise ValueError(f"no largest value of {described}")


def _is_unbounded(described: inspect.Type) -> bool:
    return isinstance(described, inspect.ListType) and described.max_length is None
