"""The order of the play: which engines run when, and for which scenarios.

Engines are started as seldom as is honest. One P with the short lease and one D serve stall, long step and queue; then
P alone is exchanged for one with the long lease, and D dies in the crash (for kvlease twice: with its default grace and
with none).
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
from proof.demo import crash, long_step, queue, stall
from proof.demo.outcome import ActOutcome, ScenarioName
from proof.demo.promises import DEFAULT_GRACE_LABEL, NO_GRACE_LABEL, STOCK_LABEL
from proof.demo.report import sentences
from proof.demo.stage import DECODER_BLOCKS, DECODER_TOKENS, PRODUCER_BLOCKS, PRODUCER_TOKENS, Stage
from proof.realengines.cores import Cores, choose_cores
from proof.realengines.engine import Engine
from proof.realengines.router import open_client
from proof.realengines.spec import Connector, EngineSpec

CRASH_LEASES = 5
"""The crash is played with a lease this many times as long: 30 s beside 6 s."""
_GRACES_S: dict[str, float | None] = {DEFAULT_GRACE_LABEL: None, NO_GRACE_LABEL: 0.0}
"""The orphan graces with which kvlease's crash is measured. None: not set, so that the default is shown."""

_DURATION_KEY = "kv_lease_duration"
_GRACE_KEY = "kv_lease_orphan_grace"

_ON_ONE_STAGE: dict[ScenarioName, Callable[[Stage], Awaitable[ActOutcome]]] = {
    "stall": stall.play,
    "long-step": long_step.play,
    "queue": queue.play,
}
_TITLES: dict[ScenarioName, str] = {
    "stall": "decoder stall: D stands still beyond its lease, then goes on",
    "long-step": "long step: one step of D outlasts the lease",
    "queue": "long queue: requests wait on a living D for several terms",
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

    Any end of this (an error, Ctrl-C) ends the engines too.
    """
    cores = choose_cores()
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
        with ExitStack() as decoder_life:
            decoder = self._start(decoder_life, self._decoder_spec())
            if on_one_stage:
                with ExitStack() as producer_life:
                    producer = self._start(producer_life, self._producer_spec("p", self._settings.lease_s))
                    await self._wait_ready(producer, decoder)
                    stage = self._stage(producer, decoder, self._settings.lease_s)
                    outcomes += [await self._one(name, stage) for name in on_one_stage]
            if "crash" in self._settings.scenarios:
                outcomes.append(await self._crash(decoder))
        return outcomes

    async def _one(self, name: ScenarioName, stage: Stage) -> ActOutcome:
        return await self._timed(name, partial(_ON_ONE_STAGE[name], stage))

    async def _crash(self, decoder: Engine) -> ActOutcome:
        lease_s = CRASH_LEASES * self._settings.lease_s
        outcomes = []
        # One after the other: two producers on one core starve each other as soon as one of them holds blocks.
        for label, spec in self._crash_specs(lease_s):
            with ExitStack() as life:
                producer = self._start(life, spec)
                if not decoder.is_alive():
                    decoder.start()
                await self._wait_ready(producer, decoder)
                stage = self._stage(producer, decoder, lease_s)
                outcomes.append(await self._timed("crash", partial(crash.play, stage, label)))
        return crash.together(outcomes)

    async def _timed(self, name: ScenarioName, act: Callable[[], Awaitable[ActOutcome]]) -> ActOutcome:
        self._story.title(f"{self._connector}: {_TITLES[name]}")
        began = time.monotonic()
        outcome = await act()
        for sentence in sentences(outcome):
            self._story.say(sentence)
        return replace(outcome, took_s=time.monotonic() - began)

    def _crash_specs(self, lease_s: float) -> list[tuple[str, EngineSpec]]:
        if self._connector == "stock":
            return [(STOCK_LABEL, self._producer_spec("p-crash", lease_s))]
        return [
            (label, self._producer_spec(f"p-crash-{number}", lease_s, grace_s))
            for number, (label, grace_s) in enumerate(_GRACES_S.items(), start=1)
        ]

    def _producer_spec(self, name: str, lease_s: float, grace_s: float | None = None) -> EngineSpec:
        # Stock takes whole seconds.
        extra: dict[str, Any] = {_DURATION_KEY: int(lease_s) if lease_s == int(lease_s) else lease_s}
        if grace_s is not None:
            extra[_GRACE_KEY] = grace_s
        return EngineSpec(
            name=f"{self._connector}-{name}",
            model=self._settings.model,
            role="kv_producer",
            connector=self._connector,
            extra_config=extra,
            num_blocks=PRODUCER_BLOCKS,
            max_model_len=PRODUCER_TOKENS,
            cores=(self._cores.producer,),
        )

    def _decoder_spec(self) -> EngineSpec:
        return EngineSpec(
            name=f"{self._connector}-d",
            model=self._settings.model,
            role="kv_consumer",
            connector=self._connector,
            extra_config={_DURATION_KEY: self._producer_spec("p", self._settings.lease_s).extra_config[_DURATION_KEY]},
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
