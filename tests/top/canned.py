"""Engines that are none: their /metrics pages and routes, as vLLM's API server has them with kvlease."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import httpx
import msgspec

from kvlease.admin.answers import (
    ClaimingConsumer,
    ConsumerEntry,
    EngineHealth,
    ErrorAnswer,
    ErrorDetail,
    Health,
    HeldLeases,
    Holding,
    LeaseEntry,
    LeasePage,
    LeaseSettings,
    ProducerEntry,
    SessionCounts,
    Sessions,
    Unheard,
)

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
BLOCK_BYTES = 2 << 20
SETTINGS = LeaseSettings(30.0, 20.0, 5.0, 0.0, 600.0, 120.0, 0.25, 8192)
OTHERS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="{rank}",model_name="{model}"}} 3.0
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{{engine="{rank}",model_name="{model}"}} 1.234567e+06
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="{rank}",model_name="{model}"}} {usage}
"""
"""Lines of vLLM's own."""


@dataclass
class CannedEngine:
    """One rank. Its figures follow from its leases and its counters."""

    name: str
    rank: int = 0
    leases: list[LeaseEntry] = field(default_factory=list)
    consumers: list[ConsumerEntry] = field(default_factory=list)
    producers: list[ProducerEntry] = field(default_factory=list)
    counters: dict[str, float] = field(default_factory=dict)
    """Their names and labels are as the page has them: `grants_total`, `lease_ends_total{cause="released"}`."""
    usage: float = 0.4
    agent_up: bool = True
    draining: bool = False
    uptime_s: float = 4000.0

    def holding(self, states: str) -> Holding:
        found = [lease for lease in self.leases if lease.state in states]
        return Holding(
            len(found),
            sum(lease.tokens for lease in found),
            sum(lease.blocks for lease in found),
            sum(lease.bytes for lease in found),
        )

    def unheard(self, kind: str) -> Holding:
        gone = [each for each in self.consumers if (each.state == "dead") == (kind == "dead")]
        found = [each for each in gone if each.state == "dead" or each.silent_s > 10.0]
        return Holding(
            sum(each.claims for each in found),
            sum(each.tokens for each in found),
            sum(each.blocks for each in found),
            sum(each.bytes for each in found),
        )

    def page(self) -> str:
        held, lapsed = self.holding("granted claimed"), self.holding("lapsed")
        gauges: dict[str, float] = {
            "active_leases": held.leases,
            "claimed_leases": self.holding("claimed").leases,
            "lapsed_leases": lapsed.leases,
            'sessions{role="consumers"}': len(self.consumers),
            'sessions{role="producers"}': len(self.producers),
            "agent_up": self.agent_up,
            "draining": self.draining,
        }
        for unit in ("tokens", "blocks", "bytes"):
            gauges[f"held_{unit}"] = getattr(held, unit)
            gauges[f"lapsed_{unit}"] = getattr(lapsed, unit)
        for kind in ("dead", "silent"):
            for unit in ("leases", "tokens", "blocks", "bytes"):
                gauges[f'unheard_{unit}{{consumer="{kind}"}}'] = getattr(self.unheard(kind), unit)
        ours = [self._line(name, value, "gauge") for name, value in gauges.items()]
        ours += [self._line(name, value, "counter") for name, value in self.counters.items()]
        return OTHERS.format(rank=self.rank, model=MODEL, usage=self.usage) + "".join(ours)

    def _line(self, name: str, value: float, kind: str) -> str:
        bare, _, label = name.rstrip("}").partition("{")
        labels = f'engine="{self.rank}",model_name="{MODEL}"' + (f",{label}" if label else "")
        return f"# TYPE kvlease:{bare} {kind}\nkvlease:{bare}{{{labels}}} {float(value)}\n"

    def health(self) -> EngineHealth:
        held = self.holding("granted claimed")
        return EngineHealth(
            rank=self.rank,
            engine_id=self.name,
            incarnation=f"{self.rank + 1:016x}",
            version="0.1.0",
            agent="up" if self.agent_up else "dead",
            draining=self.draining,
            uptime_s=self.uptime_s,
            settings=SETTINGS,
            held=HeldLeases(held.leases, held.tokens, held.blocks, held.bytes, claimed=self.holding("claimed").leases),
            lapsed=self.holding("lapsed"),
            unheard=Unheard(self.unheard("dead"), self.unheard("silent")),
            pool_blocks=8192,
            sessions=SessionCounts(len(self.consumers), len(self.producers)),
        )


@dataclass
class CannedServer:
    """An API server with one engine or several data-parallel ones."""

    url: str
    engines: Sequence[CannedEngine]
    alive: bool = True
    routes: bool = True
    """False: /metrics alone."""
    key: str | None = None
    """The key that the routes need."""

    def answer(self, target: str, key: str | None) -> tuple[int, bytes]:
        """Returns the status and the body of an answer."""
        path, asked = urlsplit(target).path, dict(parse_qsl(urlsplit(target).query))
        if path == "/metrics":
            return 200, "".join(engine.page() for engine in self.engines).encode()
        if not path.startswith("/v1/kvlease/") or not self.routes:
            return 404, b'{"detail":"Not Found"}'
        if self.key is not None and key != f"Bearer {self.key}":
            return 401, b'{"error":"Unauthorized"}'
        body: msgspec.Struct
        match path.removeprefix("/v1/kvlease/"):
            case "health":
                body = Health([engine.health() for engine in self.engines])
            case "leases":
                leases = [lease for engine in self.engines for lease in engine.leases]
                leases = [lease for lease in leases if lease.state == asked.get("state", lease.state)]
                body = LeasePage(leases, len(leases), None)
            case "sessions":
                body = Sessions(
                    [each for engine in self.engines for each in engine.consumers],
                    [each for engine in self.engines for each in engine.producers],
                )
            case _:
                return 404, msgspec.json.encode(ErrorAnswer(ErrorDetail("no such route", "NotFound", 404)))
        return 200, msgspec.json.encode(body)


def transport(servers: Sequence[CannedServer]) -> httpx.MockTransport:
    """Returns the way to these servers, without a network."""
    by_host = {urlsplit(server.url).netloc: server for server in servers}

    def answer(request: httpx.Request) -> httpx.Response:
        server = by_host[request.url.netloc.decode()]
        if not server.alive:
            raise httpx.ConnectError("connection refused", request=request)
        status, body = server.answer(str(request.url), request.headers.get("Authorization"))
        return httpx.Response(status, content=body)

    return httpx.MockTransport(answer)


def lease(
    number: int, age_s: float, tokens: int, consumer: str = "", state: str = "", cause: str | None = None
) -> LeaseEntry:
    """Returns a lease that a consumer claims, or that nobody does yet."""
    blocks = -(-tokens // 16)
    state = state or ("claimed" if consumer else "granted")
    return LeaseEntry(
        rank=0,
        token=f"{0xA1B2C3D4 + 7919 * number & 0xFFFFFFFF:08x}",
        request_id=f"cmpl-{0x5EED0000 + 104729 * number:08x}-0",
        state=state,
        age_s=age_s,
        remaining_s=None if state == "lapsed" else 20.0 - age_s % 5 if consumer else 30.0 - age_s,
        tokens=tokens,
        blocks=blocks,
        bytes=blocks * BLOCK_BYTES,
        consumers=[ClaimingConsumer(f"{7:016x}", consumer)] if consumer else [],
        cause=cause,
    )


def consumer(engine_id: str, state: str, silent_s: float, leases: Sequence[LeaseEntry]) -> ConsumerEntry:
    """Returns the session of a consumer that claims those of the leases that are its."""
    own = [each for each in leases if any(engine_id == claiming.engine_id for claiming in each.consumers)]
    return ConsumerEntry(
        rank=0,
        incarnation=f"{7:016x}",
        engine_id=engine_id,
        state=state,
        silent_s=silent_s,
        remaining_s=max(0.0, 20.0 - silent_s),
        claims=len(own),
        tokens=sum(each.tokens for each in own),
        blocks=sum(each.blocks for each in own),
        bytes=sum(each.bytes for each in own),
    )
