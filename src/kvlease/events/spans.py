"""Facts as OpenTelemetry spans that join the trace of a request.

On a prefill engine a span is a lease, from its grant to the end of its hold; on a decode engine it is a hand-off, from
the moment at which a request wants the lease until it needs its producer no more. Only a request that came with a trace
context has spans. They go where the process's tracer provider sends them: the engine's own.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kvlease.events.lines import hexadecimal
from kvlease.events.names import lease_hash
from kvlease.events.recorder import Heard
from kvlease.protocol.engine_facts import (
    HandOffEnd,
    HandOffEnded,
    PrefillOffered,
    ReferenceRefused,
    RequestTraced,
    Told,
)
from kvlease.protocol.facts import LeaseClaimed, LeaseEnded, LeaseHeld, LeaseLapsed, LeaseLost, LeaseWanted

MOST = 65_536
"""The most leases and requests of which is kept what their spans need; the oldest go first."""
LEASE_SPAN = "kvlease.lease"
HAND_OFF_SPAN = "kvlease.hand_off"

V = TypeVar("V")


class Spans:
    """Makes spans of facts (`kvlease.events.recorder.Sink`)."""

    def __init__(self, tracer: Any, context_of: Callable[[Any], Any]) -> None:
        """`tracer`: OpenTelemetry's. `context_of` reads a trace context from W3C headers."""
        self._tracer = tracer
        self._context_of = context_of
        self._contexts: OrderedDict[str, Any] = OrderedDict()
        """The trace contexts of requests of which no span has begun."""
        self._of_leases: OrderedDict[int, Any] = OrderedDict()
        """The trace contexts of leases that have not ended: one that lapsed may live again."""
        self._leases: OrderedDict[int, Any] = OrderedDict()
        self._hand_offs: OrderedDict[str, Any] = OrderedDict()
        self._wanted_at: OrderedDict[str, int] = OrderedDict()
        self._wanted_by: OrderedDict[int, str] = OrderedDict()
        self._takers: dict[type[Told], Callable[[Any, int], None]] = {
            RequestTraced: self._traced,
            PrefillOffered: self._offered,
            LeaseClaimed: self._claimed,
            LeaseLapsed: self._lapsed,
            LeaseEnded: self._ended,
            LeaseWanted: self._wanted,
            LeaseHeld: self._held,
            LeaseLost: self._lost,
            HandOffEnded: self._over,
            ReferenceRefused: self._refused,
        }

    def take(self, heard: Sequence[Heard], dropped: int) -> None:
        del dropped
        for at, told in heard:
            take = self._takers.get(type(told))
            if take is not None:
                take(told, round(at * 1e9))

    def close(self) -> None:
        """Nothing: a span that has not ended is not exported."""

    def _traced(self, told: RequestTraced, _: int) -> None:
        _keep(self._contexts, told.request_id, self._context_of(told.headers))

    # -- a lease, on its producer --------------------------------------------------------------------------------

    def _offered(self, told: PrefillOffered, at: int) -> None:
        context = self._contexts.pop(told.request_id, None)
        if context is None:
            return
        _keep(self._of_leases, told.token, context)
        attributes = {"tokens": told.tokens, "blocks": told.blocks, "term_s": told.term_s}
        self._begin_lease(told.token, context, at, attributes)

    def _begin_lease(self, token: int, context: Any, at: int, attributes: dict[str, Any]) -> None:
        named = _named({"lease": lease_hash(token), **attributes})
        _keep(self._leases, token, self._tracer.start_span(LEASE_SPAN, context, attributes=named, start_time=at))

    def _claimed(self, told: LeaseClaimed, at: int) -> None:
        if told.revived and told.token not in self._leases and told.token in self._of_leases:
            self._begin_lease(told.token, self._of_leases[told.token], at, {"revived": True})
        span = self._leases.get(told.token)
        if span is not None:
            consumer = _named({"consumer": hexadecimal(told.consumer)})
            span.set_attributes(consumer)
            span.add_event("claimed", consumer | _named({"age_s": told.age_s}), at)

    def _lapsed(self, told: LeaseLapsed, at: int) -> None:
        span = self._leases.pop(told.token, None)
        if span is not None:
            span.add_event("lapsed", _named({"cause": str(told.cause), "age_s": told.age_s}), at)
            span.set_attributes(_named({"cause": str(told.cause)}))
            span.end(at)

    def _ended(self, told: LeaseEnded, at: int) -> None:
        self._of_leases.pop(told.token, None)
        span = self._leases.pop(told.token, None)
        if span is not None:
            span.set_attributes(_named({"cause": str(told.cause)}))
            span.end(at)

    # -- a hand-off, on its consumer -----------------------------------------------------------------------------

    def _wanted(self, told: LeaseWanted, at: int) -> None:
        context = self._contexts.pop(told.holder, None)
        if context is None:
            return
        named = _named({"lease": lease_hash(told.token), "producer": hexadecimal(told.producer)})
        span = self._tracer.start_span(HAND_OFF_SPAN, context, attributes=named, start_time=at)
        _keep(self._hand_offs, told.holder, span)
        _keep(self._wanted_at, told.holder, at)
        _keep(self._wanted_by, told.token, told.holder)

    def _held(self, told: LeaseHeld, at: int) -> None:
        span = self._hand_offs.get(self._wanted_by.get(told.token, ""))
        if span is not None:
            span.add_event("held", None, at)

    def _lost(self, told: LeaseLost, at: int) -> None:
        span = self._hand_offs.get(told.holder)
        if span is not None:
            span.add_event("lost", None, at)

    def _over(self, told: HandOffEnded, at: int) -> None:
        self._contexts.pop(told.request_id, None)
        if told.token is not None:
            self._wanted_by.pop(told.token, None)
        span = self._hand_offs.pop(told.request_id, None)
        wanted_at = self._wanted_at.pop(told.request_id, at)
        if span is not None:
            span.set_attributes(_named({"end": str(told.end), "wait_s": (at - wanted_at) / 1e9}))
            if told.end is HandOffEnd.FAILED:
                span.add_event("not used", None, at)
            span.end(at)

    def _refused(self, told: ReferenceRefused, at: int) -> None:
        context = self._contexts.pop(told.request_id, None)
        if context is not None:
            named = _named({"end": "refused", "reason": told.reason})
            self._tracer.start_span(HAND_OFF_SPAN, context, attributes=named, start_time=at).end(at)


def _keep(kept: "OrderedDict[Any, V]", key: Any, value: V) -> None:
    kept[key] = value
    if len(kept) > MOST:
        kept.popitem(last=False)


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"kvlease.{name}": value for name, value in attributes.items()}


def open_spans() -> Spans:
    """Returns spans that go where this process's own do. OpenTelemetry has to be installed."""
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return Spans(trace.get_tracer("kvlease"), TraceContextTextMapPropagator().extract)
