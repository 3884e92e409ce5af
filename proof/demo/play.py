"""The order of the play: which engines run when, and for which scenarios.

Engines are started as seldom as is honest. One P with the short lease and one D serve both stalls, long step and queue.
Another D comes for the failover, in which the first one dies. Then P alone is exchanged for one with the long lease,
and the other D dies in the crash.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from kvlease.console.progress import Story
from proof.demo import crash, failover, long_step, queue, stall
from proof.demo.outcome import ActOutcome, ScenarioName
from proof.demo.report import sentences
from proof.demo.stage import DECODER_BLOCKS, DECODER_TOKENS, PRODUCER_BLOCKS, PRODUCER_TOKENS, Stage
from proof.realengines.cores import Cores, choose_cores
from proof.realengines.engine import Engine
from proof.realengines.router import open_client
from proof.realengines.routers import require_routers
from proof.realengines.spec import Connector, EngineSpec

CRASH_LEASES = 5
"""The crash is played with a lease this many times as long: 30 s beside 6 s."""

_ON_ONE_STAGE: dict[ScenarioName, Callable[[Stage], Awaitable[ActOutcome]]] = {
    "stall": stall.play_reused,
    "stall-free": stall.play_free,
    "long-step": long_step.play,
    "queue": queue.play,
}
_TITLES: dict[ScenarioName, str] = {
    "stall": "decoder stall: D stands still beyond its lease, while P gives the blocks to others",
    "stall-free": "the same stall, while P has memory to spare",
    "long-step": "long step: one step of D outlasts the lease",
    "queue": "long queue: requests wait on a living D for several terms",
    "failover": "failover: one of two Ds is killed under streams, behind the router that each connector comes with",
    "crash": "decoder crash: D is killed while requests wait on it",
}


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """The choice of what to play. `lease_s` is the short lease; the crash has `CRASH_LEASES` times that."""

    connectors: Sequence[Connector]
    scenarios: Sequence[ScenarioName]
    model: Path
    logs: Path
    lease_s: float


async def play(settings: DemoSettings, story: Story) -> list[ActOutcome]:
    """Plays everything, one connector after the other. Raises EngineError where it cannot go on.

    Raises RouterError, before anything starts, where a router is not here. Any end of this (an error, Ctrl-C) ends the
    engines too.
    """
    cores = choose_cores()
    if "failover" in settings.scenarios:
        require_routers(failover.BEHIND[connector] for connector in settings.connectors)
    outcomes: list[ActOutcome] = []
    async with open_client() as client:
        for connector in settings.connectors:
            outcomes += await _Play(settings, story, cores, connector, client).all_scenarios()
    return outcomes


class _Play:
    """All scenarios with one connector."""

    def __init__(
        self, settings: DemoSettings, story: Story, cores: Cores, connector: Connector, client: httpx.AsyncClient
    ) -> None:
        self._settings = settings
        self._story = story
        self._cores = cores
        self._connector = connector
        self._client = client

    async def all_scenarios(self) -> list[ActOutcome]:
        outcomes: list[ActOutcome] = []
        on_one_stage = [name for name in self._settings.scenarios if name in _ON_ONE_STAGE]
        fails_over = "failover" in self._settings.scenarios
        with ExitStack() as decoder_life:
            decoder = self._start(decoder_life, self._decoder_spec("d"))
            if on_one_stage or fails_over:
                with ExitStack() as producer_life:
                    producer = self._start(producer_life, self._producer_spec("p", self._settings.lease_s))
                    await self._wait_ready(producer, decoder)
                    stage = self._stage(producer, decoder, self._settings.lease_s)
                    outcomes += [await self._one(name, stage) for name in on_one_stage]
                    if fails_over:
                        decoder = self._start(decoder_life, self._decoder_spec("d2"))
                        await self._wait_ready(decoder)
                        act = partial(failover.play, stage, decoder, self._settings.logs)
                        outcomes.append(await self._timed("failover", act))
            if "crash" in self._settings.scenarios:
                outcomes.append(await self._crash(decoder))
        return outcomes

    async def _one(self, name: ScenarioName, stage: Stage) -> ActOutcome:
        return await self._timed(name, partial(_ON_ONE_STAGE[name], stage))

    async def _crash(self, decoder: Engine) -> ActOutcome:
        lease_s = CRASH_LEASES * self._settings.lease_s
        with ExitStack() as life:
            producer = self._start(life, self._producer_spec("p-crash", lease_s))
            await self._wait_ready(producer, decoder)
            return await self._timed("crash", partial(crash.play, self._stage(producer, decoder, lease_s)))

    async def _timed(self, name: ScenarioName, act: Callable[[], Awaitable[ActOutcome]]) -> ActOutcome:
        self._story.title(f"{self._connector}: {_TITLES[name]}")
        began = time.monotonic()
        outcome = await act()
        for sentence in sentences(outcome):
            self._story.say(sentence)
        return replace(outcome, took_s=time.monotonic() - began)

    def _producer_spec(self, name: str, lease_s: float) -> EngineSpec:
        return EngineSpec(
            name=f"{self._connector}-{name}",
            model=self._settings.model,
            role="kv_producer",
            connector=self._connector,
            extra_config=_lease_of(lease_s),
            num_blocks=PRODUCER_BLOCKS,
            max_model_len=PRODUCER_TOKENS,
            cores=(self._cores.producer,),
        )

    def _decoder_spec(self, name: str) -> EngineSpec:
        return EngineSpec(
            name=f"{self._connector}-{name}",
            model=self._settings.model,
            role="kv_consumer",
            connector=self._connector,
            extra_config=_lease_of(self._settings.lease_s),
            num_blocks=DECODER_BLOCKS,
            max_model_len=DECODER_TOKENS,
            # One seat: whoever comes later waits.
            max_num_seqs=1,
            cores=(self._cores.decoder,),
        )

    def _start(self, life: ExitStack, spec: EngineSpec) -> Engine:
        return life.enter_context(Engine(spec, self._settings.logs))

    async def _wait_ready(self, *engines: Engine) -> None:
        starting = [engine for engine in engines if engine.start_s is None]
        names = ", ".join(engine.spec.name for engine in starting)
        with self._story.busy(f"vLLM engines are starting: {names}"):
            await asyncio.gather(*(asyncio.to_thread(engine.wait_ready) for engine in starting))
        times = ", ".join(f"{engine.spec.name} in {engine.start_s:.0f} s" for engine in starting)
        self._story.say(f"ready: {times}")

    def _stage(self, producer: Engine, decoder: Engine, lease_s: float) -> Stage:
        return Stage(self._connector, producer, decoder, self._client, lease_s, self._story)


def _lease_of(lease_s: float) -> dict[str, Any]:
    # Stock takes whole seconds.
    return {"kv_lease_duration": int(lease_s) if lease_s == int(lease_s) else lease_s}
