"""Engines that are none: their /metrics pages, which tell of traffic that goes on as long as they are asked."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kvlease.metrics.catalogue import METRICS
from kvlease.metrics.metric import Kind, Metric
from tests.monitoring.known import VLLM, bounds

_PER_SECOND = 10.0
"""The speed of every counter."""
_GAUGES = {
    "kvlease:agent_up": 1.0,
    "kvlease:draining": 1.0,
    "kvlease:active_leases": 7.0,
    "vllm:kv_cache_usage_perc": 0.4,
}
_OTHER_GAUGES = 3.0


def page(elapsed_s: float, ranks: int = 2) -> str:
    """Returns the page of an engine that has run so long: it has every metric, with every value of its label."""
    lines = [line for metric in METRICS.values() for line in _lines(metric, elapsed_s)]
    lines += [f"vllm:{name}{{}} {_figure(f'vllm:{name}', elapsed_s):g}" for name in VLLM]
    engines = [f'{{model_name="m",engine="{rank}",' for rank in range(ranks)]
    return "".join(line.replace("{", engine) + "\n" for engine in engines for line in lines)


def _lines(metric: Metric, elapsed_s: float) -> Iterator[str]:
    if metric.kind is not Kind.HISTOGRAM:
        for value in metric.values or ("",):
            label = f'{metric.label}="{value}"' if value else ""
            yield f"{metric.shown}{{{label}}} {_figure(metric.shown, elapsed_s):g}"
        return
    observed = elapsed_s * _PER_SECOND
    labels = bounds(metric.buckets)
    for number, bound in enumerate(labels, start=1):
        # Each bucket has as many as the others.
        yield f'{metric.shown}_bucket{{le="{bound}"}} {observed * number / len(labels):g}'
    yield f"{metric.shown}_sum{{}} {observed:g}"
    yield f"{metric.shown}_count{{}} {observed:g}"


def _figure(name: str, elapsed_s: float) -> float:
    return elapsed_s * _PER_SECOND if name.endswith("_total") else _GAUGES.get(name, _OTHER_GAUGES)


@contextmanager
def serving(ranks: int = 2) -> Iterator[str]:
    """Serves the page of an engine on this machine until left; yields host:port."""
    began = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page(time.monotonic() - began, ranks).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
