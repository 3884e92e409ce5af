"""Those who watch engines: a scraper and a `kvlease top`, each once a second, and a collector of spans.

They keep no more of what they are told than its size. In a cluster they run elsewhere; here they share the engines' two
cores, so what they take is in the figures.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx

from kvlease.admin.client import ROUTES
from proof.realengines.engine import EngineError

EVERY_S = 1.0
SCRAPED = ("/metrics",)
"""The pages that a Prometheus reads, of the agent's own listener."""
POLLED = (
    "/metrics",
    f"{ROUTES}/health",
    f"{ROUTES}/sessions",
    f"{ROUTES}/leases?state=granted&limit=500",
    f"{ROUTES}/leases?state=claimed&limit=500",
)
"""The pages that `kvlease top` reads, of vLLM's API server."""
_TRACES = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass
class Told:
    """The amount that engines have told their watchers."""

    pages: int = 0
    page_bytes: int = 0


@asynccontextmanager
async def watching(
    api_urls: Sequence[str],
    listener_urls: Sequence[str],
    told: Told,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[None]:
    """Asks all of these engines while it lasts. Raises EngineError where one answers with anything but a page."""
    async with httpx.AsyncClient(timeout=30.0, transport=transport, trust_env=False) as http:
        asked = [(url, POLLED) for url in api_urls] + [(url, SCRAPED) for url in listener_urls]
        watchers = [asyncio.create_task(_watch(http, url, pages, told)) for url, pages in asked]
        try:
            yield
        finally:
            for watcher in watchers:
                watcher.cancel()
            ends = await asyncio.gather(*watchers, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise EngineError(f"an engine could not be watched: {end!r}") from end


async def _watch(http: httpx.AsyncClient, url: str, pages: Sequence[str], told: Told) -> None:
    while True:
        for page in pages:
            response = await http.get(url + page)
            response.raise_for_status()
            told.pages += 1
            told.page_bytes += len(response.content)
        await asyncio.sleep(EVERY_S)


class Collector:
    """A receiver of OTLP over gRPC that counts what comes. Attributes: `url`, for `--otlp-traces-endpoint`;
    `bytes`: those of all spans so far."""

    def __init__(self) -> None:
        self.url = ""
        self.bytes = 0

    def export(self, request: bytes, context: object) -> bytes:
        """Takes spans, unread; an empty message says that all of them are accepted."""
        del context
        self.bytes += len(request)
        return b""


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listens on this machine while it lasts."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    # Without a deserializer the message comes as its bytes.
    handler = grpc.unary_unary_rpc_method_handler(collector.export)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_TRACES, {"Export": handler}),))
    collector.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with contextlib.ExitStack() as life:
        life.callback(server.stop, 0)
        yield collector
