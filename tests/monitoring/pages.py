"""Engines that are none: their /metrics pages, which tell of traffic that goes on as long as they are asked."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from proof.monitoring.rules import recordings
from tests.monitoring.known import HISTOGRAMS, known

_PER_SECOND = 10.0
"""The speed of every counter."""
_BOUNDS = ("0.001", "0.01", "0.1", "1.0", "10.0", "+Inf")
_GAUGES = {
    "kvlease:agent_up": 1.0,
    "kvlease:draining": 1.0,
    "kvlease:active_leases": 7.0,
    "vllm:kv_cache_usage_perc": 0.4,
}
_OTHER_GAUGES = 3.0


def page(elapsed_s: float, ranks: int = 2) -> str:
    """Returns the page of an engine that has run so long: it has every metric, with every value of its label."""
    lines, recorded = [], {rule.name for rule in recordings()}
    for name, series in known().items():
        if name in recorded or not name.startswith(("kvlease:", "vllm:")):
            continue
        (label,) = series.labels.keys() - {"job", "instance", "model_name", "engine"} or {""}
        for rank in range(ranks):
            for value in _values(label, sorted(series.labels[label]) if label else [""]):
                own = f',{label}="{value}"' if label else ""
                lines.append(f'{name}{{model_name="m",engine="{rank}"{own}}} {_figure(name, value, elapsed_s):g}')
    return "\n".join(lines) + "\n"


def _values(label: str, known_values: list[str]) -> list[str]:
    return list(_BOUNDS) if label == "le" else known_values


def _figure(name: str, value: str, elapsed_s: float) -> float:
    if any(name == f"kvlease:{histogram}_{part}" for histogram in HISTOGRAMS for part in ("bucket", "sum", "count")):
        # Each bound has as many as the one below, and some more.
        share = (_BOUNDS.index(value) + 1) / len(_BOUNDS) if value else 1.0
        return elapsed_s * _PER_SECOND * share
    if name.endswith("_total"):
        return elapsed_s * _PER_SECOND
    return _GAUGES.get(name, _OTHER_GAUGES)


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
