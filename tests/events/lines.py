"""Lines made by hand."""

from typing import Any

from kvlease.events.names import lease_hash, request_hash
from kvlease.events.schema import SCHEMA, EventKind, EventLine, Role

LEASE = lease_hash(101)
REQUEST = request_hash("abc")


def p_line(ts: float, kind: EventKind, **more: Any) -> EventLine:
    return _line(ts, "prefill-0", Role.PRODUCER, kind, "00000000000000a1", more)


def d_line(ts: float, kind: EventKind, **more: Any) -> EventLine:
    return _line(ts, "decode-1", Role.CONSUMER, kind, "00000000000000d1", more)


def _line(ts: float, engine: str, role: Role, kind: EventKind, own: str, more: dict[str, Any]) -> EventLine:
    fields = {"lease": LEASE, "request": REQUEST} | more
    return EventLine(schema=SCHEMA, ts=ts, engine=engine, role=role, event=kind, incarnation=own, **fields)
