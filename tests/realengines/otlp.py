"""A receiver of OTLP over gRPC: the service that a collector is, made of OpenTelemetry's own definitions of it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.waiting import wait_until


class ReceivedSpan(NamedTuple):
    """A span as it came over the wire."""

    name: str
    trace_id: str
    parent_id: str
    attributes: dict[str, Any]
    events: list[str]
    seconds: float


class OtlpReceiver:
    """Keeps all spans that it gets. Attributes: `url`, for `--otlp-traces-endpoint`."""

    def __init__(self) -> None:
        self.url = ""
        self._lock = threading.Lock()
        self._spans: list[ReceivedSpan] = []

    def Export(self, request: Any, context: Any) -> Any:
        """The one method of the service `TraceService`."""
        del context
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        with self._lock:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    self._spans += [_received(span) for span in scope.spans]
        return ExportTraceServiceResponse()

    def of_trace(self, trace_id: str) -> list[ReceivedSpan]:
        with self._lock:
            return [span for span in self._spans if span.trace_id == trace_id]

    def wait_for(self, trace_id: str, name: str) -> ReceivedSpan:
        """Waits until a span of this name has come, and returns it."""
        wait_until(lambda: any(span.name == name for span in self.of_trace(trace_id)))
        return next(span for span in self.of_trace(trace_id) if span.name == name)


def _received(span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        span.name,
        span.trace_id.hex(),
        span.parent_span_id.hex(),
        {each.key: _value(each.value) for each in span.attributes},
        [event.name for event in span.events],
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """Listens on this machine while it lasts."""
    import grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import add_TraceServiceServicer_to_server

    receiver = OtlpReceiver()
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(receiver, server)
    receiver.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(0)
