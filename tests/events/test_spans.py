"""Spans: one for a lease on its producer, one for a hand-off on its consumer, in the trace of the request."""

from typing import Any

from kvlease.events.spans import Spans
from kvlease.protocol import Cause
from kvlease.protocol.engine_facts import (
    HandOffEnd,
    HandOffEnded,
    PrefillOffered,
    ReferenceRefused,
    RequestTraced,
    Told,
)
from kvlease.protocol.facts import LeaseClaimed, LeaseEnded, LeaseHeld, LeaseLapsed, LeaseWanted

TRACED = RequestTraced("r", {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})


class ListedSpan:
    def __init__(self, name: str, context: Any, attributes: dict[str, Any], start_time: int) -> None:
        self.name, self.context, self.attributes, self.start_time = name, context, dict(attributes), start_time
        self.events: list[str] = []
        self.end_time: int | None = None

    def set_attributes(self, attributes: dict[str, Any]) -> None:
        self.attributes |= attributes

    def add_event(self, name: str, attributes: dict[str, Any] | None, timestamp: int) -> None:
        del attributes, timestamp
        self.events.append(name)

    def end(self, end_time: int) -> None:
        self.end_time = end_time


class ListingTracer:
    def __init__(self) -> None:
        self.spans: list[ListedSpan] = []

    def start_span(self, name: str, context: Any, *, attributes: dict[str, Any], start_time: int) -> ListedSpan:
        self.spans.append(ListedSpan(name, context, attributes, start_time))
        return self.spans[-1]


def spans_of(*told: Told) -> list[ListedSpan]:
    """The spans of facts that are a second apart."""
    tracer = ListingTracer()
    Spans(tracer, lambda headers: headers["traceparent"]).take([(float(at), each) for at, each in enumerate(told)], 0)
    return tracer.spans


OFFERED = PrefillOffered(7, "r", 190, 12, 30.0)
CLAIMED = LeaseClaimed(7, 0xD1, 1.0, True, False)


def test_a_lease_from_its_grant_to_the_end_of_its_hold() -> None:
    (span,) = spans_of(TRACED, OFFERED, CLAIMED, LeaseLapsed(7, Cause.RELEASED, 2.0, 1.0), LeaseEnded(7, None))
    assert (span.name, span.context) == ("kvlease.lease", TRACED.headers["traceparent"])
    assert (span.start_time, span.end_time) == (1e9, 3e9)
    assert span.events == ["claimed", "lapsed"]
    assert span.attributes["kvlease.tokens"] == 190
    assert span.attributes["kvlease.consumer"] == f"{0xD1:016x}"
    assert span.attributes["kvlease.cause"] == "released"


def test_a_lease_that_lives_again_has_another_span() -> None:
    revived = LeaseClaimed(7, 0xD1, 40.0, True, True)
    lapsed = LeaseLapsed(7, Cause.EXPIRED, 30.0, None)
    first, second = spans_of(TRACED, OFFERED, lapsed, revived, LeaseLapsed(7, Cause.RELEASED, 41.0, 1.0))
    assert first.attributes["kvlease.cause"] == "expired"
    assert second.attributes["kvlease.revived"]
    assert second.end_time is not None


def test_a_hand_off_from_its_wish_to_its_end() -> None:
    over = HandOffEnded("r", 7, HandOffEnd.USED)
    (span,) = spans_of(TRACED, LeaseWanted("r", 7, 0xA1), LeaseHeld(7, 0xA1), over)
    assert (span.name, span.events) == ("kvlease.hand_off", ["held"])
    assert span.attributes["kvlease.end"] == "used"
    assert span.attributes["kvlease.wait_s"] == 2.0
    assert span.end_time == 3e9


def test_a_refused_reference_has_a_span() -> None:
    (span,) = spans_of(TRACED, ReferenceRefused("r", "length", "", 7))
    assert span.attributes["kvlease.reason"] == "length"
    assert span.end_time is not None


def test_a_request_without_a_trace_has_no_span() -> None:
    assert spans_of(OFFERED, CLAIMED, LeaseWanted("r", 7, 0xA1), HandOffEnded("r", 7, HandOffEnd.USED)) == []
