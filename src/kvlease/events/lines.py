"""Facts as lines."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kvlease import __version__
from kvlease.events.names import is_sampled, lease_hash, request_hash
from kvlease.events.recorder import Heard
from kvlease.events.schema import SCHEMA, EventKind, EventLine, Role
from kvlease.protocol.engine_facts import (
    ClaimTooLate,
    DataArrived,
    FenceChecked,
    HandOffEnded,
    PrefillDeclined,
    PrefillOffered,
    ReadBegun,
    ReadDenied,
    ReferenceMissing,
    ReferenceRefused,
    Told,
    UnfencedRead,
)
from kvlease.protocol.facts import (
    ConsumerChanged,
    ConsumerSilent,
    LeaseClaimed,
    LeaseEnded,
    LeaseHeld,
    LeaseLapsed,
    LeaseLetGo,
    LeaseLost,
    LeaseWanted,
    ProducerChanged,
)
from kvlease.protocol.states import ConsumerEvent, ProducerEvent

_P, _C = Role.PRODUCER, Role.CONSUMER
_CONSUMERS = {
    ConsumerEvent.HELLO: EventKind.CONSUMER_OPENED,
    ConsumerEvent.LOST: EventKind.CONSUMER_DEAD,
    ConsumerEvent.TIMEOUT: EventKind.CONSUMER_CLOSED,
    ConsumerEvent.BYE: EventKind.CONSUMER_CLOSED,
}
"""The changes of a consumer's session that are written; its claims are written by themselves."""
_Fields = tuple[Role, EventKind, int | None, str | None, dict[str, Any]]
"""Role, kind, token, request, and further fields."""


@dataclass(frozen=True, slots=True)
class Writer:
    """The engine that writes, and the part of it."""

    engine: str
    rank: int = 0
    incarnation: int | None = None
    worker: int | None = None


class LineMaker:
    """Makes lines of facts, and leaves out those of leases that are not in the sample."""

    def __init__(self, writer: Writer, sample: float) -> None:
        self._writer = writer
        self._incarnation = None if writer.incarnation is None else hexadecimal(writer.incarnation)
        self._sample = sample
        self._states: dict[int, ProducerEvent] = {}
        """The last written change of each session with a producer, since a producer that cannot be found is looked for
        again and again."""

    def started(self, at: float) -> EventLine:
        """Returns a file's first line."""
        return self._line(at, Role.ENGINE, EventKind.STARTED, version=__version__)

    def stopped(self, at: float) -> EventLine:
        """Returns a file's last line, where its engine ends as it should."""
        return self._line(at, Role.ENGINE, EventKind.STOPPED)

    def dropped(self, at: float, count: int) -> EventLine:
        """Returns the line that says that others are missing."""
        return self._line(at, Role.ENGINE, EventKind.DROPPED, count=count)

    def lines(self, heard: Sequence[Heard]) -> Iterator[EventLine]:
        """Yields the lines of these facts; some facts make none."""
        for at, told in heard:
            fields = self._fields(told)
            if fields is None:
                continue
            role, kind, token, request_id, more = fields
            lease = None if token is None else lease_hash(token)
            request = None if request_id is None else request_hash(request_id)
            # What a lease's engines have in common is its token; a request without one has its id.
            sampled_by = lease or request
            if sampled_by is None or is_sampled(sampled_by, self._sample):
                yield self._line(at, role, kind, lease=lease, request=request, **more)

    def _line(self, at: float, role: Role, kind: EventKind, **more: Any) -> EventLine:
        return EventLine(
            schema=SCHEMA,
            ts=round(at, 6),
            engine=self._writer.engine,
            role=role,
            event=kind,
            rank=self._writer.rank,
            worker=self._writer.worker,
            incarnation=self._incarnation,
            **more,
        )

    def _fields(self, told: Told) -> _Fields | None:
        if isinstance(told, ProducerChanged):
            return self._producer_changed(told)
        make = _MAKERS.get(type(told))
        return None if make is None else make(told)

    def _producer_changed(self, told: ProducerChanged) -> _Fields | None:
        if self._states.get(told.producer) is told.event:
            return None
        self._states[told.producer] = told.event
        if told.event in (ProducerEvent.LEAVE, ProducerEvent.BYE):
            del self._states[told.producer]
        host, port = told.endpoint
        more = {"producer": hexadecimal(told.producer), "peer": f"{host}:{port}", "state": str(told.event)}
        return _C, EventKind.PRODUCER_CHANGED, None, None, more


def hexadecimal(number: int) -> str:
    """Returns a u64 as it is written in events."""
    return f"{number:016x}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _claimed(told: LeaseClaimed) -> _Fields:
    more = {
        "consumer": hexadecimal(told.consumer),
        "age_s": _rounded(told.age_s),
        "first": told.first,
        "revived": told.revived,
    }
    return _P, EventKind.CLAIMED, told.token, None, more


def _lapsed(told: LeaseLapsed) -> _Fields:
    more = {"cause": str(told.cause), "age_s": _rounded(told.age_s), "claimed_s": _rounded(told.claimed_s)}
    return _P, EventKind.LAPSED, told.token, None, more


def _ended(told: LeaseEnded) -> _Fields:
    return _P, EventKind.ENDED, told.token, None, {"cause": None if told.cause is None else str(told.cause)}


def _silent(told: ConsumerSilent) -> _Fields:
    return _P, EventKind.CONSUMER_SILENT, None, None, {"consumer": hexadecimal(told.consumer), "claims": told.claims}


def _consumer_changed(told: ConsumerChanged) -> _Fields | None:
    kind = _CONSUMERS.get(told.event)
    if kind is None:
        return None
    more = {"consumer": hexadecimal(told.consumer), "peer": told.engine_id, "claims": told.claims}
    return _P, kind, None, None, more


def _wanted(told: LeaseWanted) -> _Fields:
    return _C, EventKind.WANTED, told.token, told.holder, {"producer": hexadecimal(told.producer)}


def _held(told: LeaseHeld) -> _Fields:
    return _C, EventKind.HELD, told.token, None, {"producer": hexadecimal(told.producer)}


def _let_go(told: LeaseLetGo) -> _Fields:
    return _C, EventKind.LET_GO, told.token, None, {"producer": hexadecimal(told.producer)}


def _lost(told: LeaseLost) -> _Fields:
    return _C, EventKind.LOST, told.token, told.holder, {}


def _offered(told: PrefillOffered) -> _Fields:
    more = {"tokens": told.tokens, "blocks": told.blocks, "term_s": told.term_s}
    return _P, EventKind.GRANTED, told.token, told.request_id, more


def _refused(told: ReferenceRefused) -> _Fields:
    more = {"reason": told.reason, "detail": told.detail}
    return _C, EventKind.REFUSED, told.token, told.request_id, more


_MAKERS: dict[type, Callable[[Any], _Fields | None]] = {
    PrefillOffered: _offered,
    PrefillDeclined: lambda told: (_P, EventKind.DECLINED, None, told.request_id, {"reason": told.reason}),
    UnfencedRead: lambda told: (_P, EventKind.UNFENCED_READ, told.token, told.request_id, {}),
    ClaimTooLate: lambda told: (_P, EventKind.CLAIM_TOO_LATE, told.token, None, {}),
    LeaseClaimed: _claimed,
    LeaseLapsed: _lapsed,
    LeaseEnded: _ended,
    ConsumerSilent: _silent,
    ConsumerChanged: _consumer_changed,
    LeaseWanted: _wanted,
    LeaseHeld: _held,
    LeaseLetGo: _let_go,
    LeaseLost: _lost,
    ReferenceMissing: lambda told: (_C, EventKind.UNLEASED, None, told.request_id, {}),
    ReferenceRefused: _refused,
    HandOffEnded: lambda told: (_C, EventKind.HAND_OFF_ENDED, told.token, told.request_id, {"end": str(told.end)}),
    ReadBegun: lambda told: (_C, EventKind.READ_BEGUN, told.token, told.request_id, {}),
    ReadDenied: lambda told: (_C, EventKind.READ_DENIED, told.token, told.request_id, {}),
    DataArrived: lambda told: (_C, EventKind.DATA_ARRIVED, told.token, told.request_id, {}),
    FenceChecked: lambda told: (_C, EventKind.FENCE_CHECKED, told.token, told.request_id, {"verdict": told.verdict}),
}
"""The makers of lines by a fact's type. A grant is told by the engine, which knows its request; renewals are told by
nobody, since there are too many."""
