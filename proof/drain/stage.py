"""The engines of one connector: D, which stays, and P, which is stopped and started again."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from kvlease.admin.client import AdminClient
from kvlease.up.ports import free_port
from proof.drain.outcome import Door, StopOutcome
from proof.drain.traffic import ANSWER_TOKENS, SteadyTraffic, Tokens
from proof.realengines.cores import Cores
from proof.realengines.engine import Engine
from proof.realengines.router import Router
from proof.realengines.spec import HOST, Connector, EngineSpec

WAIT_S = 60.0
"""The longest time for which a preStop waits, as the docs have it."""
GRACE_S = 3.0
"""The time that P gets after SIGTERM before it is killed, as at the end of a pod's grace period.

With a prefill in it, vLLM 0.32's API server kills its engine at once and then waits for that prefill's answer for good.
"""
PRODUCER_BLOCKS = 400
DECODER_BLOCKS = 400
DECODER_SEATS = 2
"""The requests that D runs at a time: few, so that others wait in its queue while their leases are held."""


@dataclass
class StopsStage:
    """P and D, and P's two doors. vLLM's --shutdown-timeout stays 0, its default: what is asked ends with SIGTERM."""

    connector: Connector
    p: Engine
    d: Engine
    listener_url: str
    http: httpx.AsyncClient

    @classmethod
    def of(
        cls, connector: Connector, model: Path, logs: Path, cores: Cores, http: httpx.AsyncClient, life: ExitStack
    ) -> Self:
        """Makes the engines, which are not started yet; they end with `life`."""
        listener = f"{HOST}:{free_port(HOST)}"
        ours = connector == "kvlease"
        # A prefill that D cannot read is not computed again here, which is vLLM's default: it is lost, and counted.
        shared: dict[str, Any] = {"model": model, "connector": connector, "load_failure_policy": "fail"}
        p = EngineSpec(
            name=f"{connector}-p",
            role="kv_producer",
            cores=(cores.producer,),
            num_blocks=PRODUCER_BLOCKS,
            extra_config={"kv_lease_listen": listener} if ours else {},
            extra_env={"VLLM_PLUGINS": "kvlease"} if ours else {},
            **shared,
        )
        d = EngineSpec(
            name=f"{connector}-d",
            role="kv_consumer",
            cores=(cores.decoder,),
            num_blocks=DECODER_BLOCKS,
            max_num_seqs=DECODER_SEATS,
            # Whatever P offers is read.
            prefix_caching=False,
            **shared,
        )
        stage = cls(connector, Engine(p, logs), Engine(d, logs), f"http://{listener}", http)
        for engine in (stage.p, stage.d):
            life.callback(engine.close)
        return stage

    async def start(self, *engines: Engine) -> None:
        """Starts engines and waits until they serve."""
        for engine in engines:
            engine.start()
        await asyncio.gather(*(asyncio.to_thread(engine.wait_ready) for engine in engines))

    async def right_answers(self, prompts: Sequence[str]) -> dict[str, Tokens]:
        """Lets D, alone and undisturbed, compute every prompt."""
        router = Router(self.http, self.p.url, self.d.url)
        answers = await asyncio.gather(*(router.compute_alone(self.d.url, prompt, ANSWER_TOKENS) for prompt in prompts))
        rights = [answer.tokens_or_raise("D cannot answer by itself") for answer in answers]
        return dict(zip(prompts, rights, strict=True))

    def traffic(self, rights: dict[str, Tokens], seed: int) -> SteadyTraffic:
        return SteadyTraffic(self.http, Router(self.http, self.p.url, self.d.url), rights, seed)

    async def stop(self, door: Door | None) -> StopOutcome:
        """Stops P as Kubernetes does: what preStop asks for, where a door is given, then SIGTERM."""
        began_at = ended_at = time.monotonic()
        left = None
        if door is not None:
            url = self.p.url if door == "vllm" else self.listener_url
            left = (await AdminClient(url, self.http).drain(WAIT_S)).left
            ended_at = time.monotonic()
        clean = await asyncio.to_thread(self.p.terminate, GRACE_S)
        return StopOutcome(
            door=door, began_at=began_at, ended_at=ended_at, gone_at=time.monotonic(), left=left, clean=clean
        )
