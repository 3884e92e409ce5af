"""The engines of a run: one P, two Ds, and the network between them if there is one."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from kvlease.console.progress import Story
from proof.chaos.outcome import AGENTS_DOWN
from proof.chaos.schedule import DECODERS, Memory
from proof.realengines.cores import Cores
from proof.realengines.engine import Engine, EngineError
from proof.realengines.metrics import FENCE_CHECKS, LEASE_ENDS, STOCK_EXPIRED
from proof.realengines.network import EngineAddress, Network
from proof.realengines.router import Router
from proof.realengines.spec import BLOCK_TOKENS, HOST, Connector, EngineSpec, Role

PRODUCER = "p"
DECODER_NAMES = tuple(f"d{number}" for number in range(1, DECODERS + 1))
PRODUCER_BLOCKS: dict[Memory, int] = {"full": 200, "half": 800}
"""P's blocks."""
LATE_CLAIMS = "kvlease:late_claims_total"
"""Claims of leases that were over, by `outcome` (on P, kvlease): `in_time` where nothing was reused, so that a prefill
was saved."""
DECODER_BLOCKS = 400
DECODER_SEATS = 2
"""The requests that a decode engine runs at a time: few, so that others wait and are read late."""
MARK = "KVLEASE_CHAOS"
"""A variable in the environment of all engines of a run; its value is the run's own."""
HEALTHY_WITHIN_S = 60.0

_DURATION_KEY = "kv_lease_duration"
# With vLLM's default a request fails, with the other policy it is computed again: one decode engine has each.
_POLICIES = ("recompute", "fail")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The settings that the engines of a run share. `mark` is found in the environment of all their processes."""

    memory: Memory = "full"

    connector: Connector
    model: Path
    logs: Path
    sockets: Path
    cores: Cores
    mark: str


@dataclass
class Scene:
    """The engines while they run."""

    producer: Engine
    decoders: Sequence[Engine]
    network: Network | None
    client: httpx.AsyncClient
    story: Story
    zero: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)
    """The counters of the engines that have ended, added up."""

    @property
    def engines(self) -> list[Engine]:
        return [self.producer, *self.decoders]

    def now_s(self) -> float:
        """Seconds since the beginning of the run."""
        return time.monotonic() - self.zero

    def router(self, decoder: int) -> Router:
        """The router from P to one of the decode engines."""
        return Router(self.client, self.producer.url, self.decoders[decoder].url)

    async def start(self, *engines: Engine) -> None:
        """Starts the engines together and waits for all."""
        for engine in engines:
            engine.start()
        await asyncio.gather(*(asyncio.to_thread(engine.wait_ready) for engine in engines))

    async def end(self, engine: Engine, gracefully: bool) -> bool:
        """Ends an engine; returns whether nothing of it had to be killed."""
        if gracefully:
            return await asyncio.to_thread(engine.terminate)
        await asyncio.to_thread(engine.kill)
        return False

    async def count(self, engine: Engine) -> None:
        """Adds up what an engine has counted in its life, which is about to end."""
        await asyncio.to_thread(self._count, engine)

    def _count(self, engine: Engine) -> None:
        try:
            metrics = engine.metrics()
        except httpx.HTTPError:
            return
        for name, label in ((LEASE_ENDS, "cause"), (FENCE_CHECKS, "verdict"), (LATE_CLAIMS, "outcome")):
            for value, count in metrics.by_label(name, label).items():
                self.counts[f"{name.removeprefix('kvlease:').removesuffix('_total')} {value}"] += round(count)
        for name in (
            STOCK_EXPIRED,
            "kvlease:grants_total",
            "kvlease:lost_leases_total",
            "kvlease:crash_reclaims_total",
        ):
            self.counts[name.partition(":")[2].removesuffix("_total")] += round(metrics.value(name))
        # An engine that made no step yet has not told of its agent.
        stepped = metrics.value("kvlease:grants_total") + metrics.value(FENCE_CHECKS)
        self.counts[AGENTS_DOWN] += bool(stepped and not metrics.value("kvlease:agent_up"))

    async def sick(self) -> list[Engine]:
        """The engines that do not answer /health although no fault is on them."""
        asked = await asyncio.gather(*(asyncio.to_thread(_is_healthy, engine) for engine in self.engines))
        return [engine for engine, healthy in zip(self.engines, asked, strict=True) if not healthy]

    async def held_blocks(self) -> int | None:
        """P's blocks in use; None if P does not answer."""
        try:
            return await asyncio.to_thread(self.producer.held_blocks)
        except httpx.HTTPError:
            return None

    def set_term(self, term_s: int, engine_id: str | None) -> None:
        """Gives P's next start this term. An engine id that is left out is drawn by vLLM."""
        self.producer.spec = replace(self.producer.spec, extra_config={_DURATION_KEY: term_s}, engine_id=engine_id)


def _is_healthy(engine: Engine) -> bool:
    try:
        engine.wait_until(engine.is_ready, "healthy", HEALTHY_WITHIN_S)
    except EngineError:
        return False
    return True


def make_engines(setup: Setup, network: Network | None, term_s: int, life: ExitStack) -> tuple[Engine, list[Engine]]:
    """Makes P and the Ds, which are not started yet; they end with `life`."""

    def make(name: str, role: Role, core: int, **settings: Any) -> Engine:
        place = network.place(name) if network else EngineAddress(HOST, (), {})
        spec = EngineSpec(
            name=f"{setup.connector}-{name}",
            model=setup.model,
            role=role,
            connector=setup.connector,
            cores=(core,),
            host=place.host,
            launcher=place.launcher,
            http_socket=setup.sockets / f"{name}.sock" if network else None,
            extra_env={**place.environment, MARK: setup.mark},
            extra_config={_DURATION_KEY: term_s},
            **settings,
        )
        engine = Engine(spec, setup.logs)
        life.callback(engine.close)
        return engine

    producer = make(PRODUCER, "kv_producer", setup.cores.producer, num_blocks=PRODUCER_BLOCKS[setup.memory])
    decoders = [
        make(
            name,
            "kv_consumer",
            setup.cores.decoder,
            num_blocks=DECODER_BLOCKS,
            max_num_seqs=DECODER_SEATS,
            load_failure_policy=policy,
        )
        for name, policy in zip(DECODER_NAMES, _POLICIES, strict=True)
    ]
    return producer, decoders


def blocks_of(prompt: str) -> int:
    """The blocks that a prompt takes."""
    return -(-len(prompt) // BLOCK_TOKENS)
