"""The traffic of the crash: clients behind a router that knows two Ds and notices when the first one is dead."""

import asyncio
import itertools
import re
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from proof.bench.engines.crash_scenario import CrashRun, CrashScenario
from proof.realengines.engine import Engine, EngineError
from proof.realengines.metrics import CACHE_USAGE
from proof.realengines.prompts import draw_equal_prompts
from proof.realengines.router import PrefillError, Reference, Router, open_client

SAMPLE_EVERY_S = 0.5
"""The time between two readings of P's /metrics, each of which costs P some milliseconds."""
_USAGE = re.compile(rf"^{CACHE_USAGE}(?:\{{[^}}]*\}})? (\S+)$", re.MULTILINE)
_TIMEOUT_S = 600.0
_SEED = 9901
_PROMPTS = 60
_MEASURED = 5


@dataclass
class Failover:
    """Clients in a closed loop. `decoders[0]` has all of them until it is killed, `decoders[1]` from then on."""

    scenario: CrashScenario
    client: httpx.AsyncClient
    producer: Engine
    decoders: list[Engine]
    prefills: list[float] = field(default_factory=list)
    held: list[tuple[float, int]] = field(default_factory=list)
    again: int = 0
    _dead: bool = False

    async def run(self) -> None:
        """Runs clients and samples until it is cancelled."""
        prompts = itertools.cycle(draw_equal_prompts(_PROMPTS, seed=_SEED, tokens=self.scenario.prompt_tokens))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sample())
            for _ in range(self.scenario.clients):
                tasks.create_task(self._client(prompts))

    async def warm_up(self) -> None:
        """Lets P and every D meet, and compute something."""
        for prompt in draw_equal_prompts(3, seed=_SEED + 1, tokens=self.scenario.prompt_tokens):
            for decoder in self.decoders:
                router = Router(self.client, self.producer.url, decoder.url)
                answer = await router.decode(await router.prefill(prompt), 4)
                answer.tokens_or_raise(f"{decoder.spec.name} does not answer")

    async def measure(self) -> tuple[float, float]:
        """Measures the time of a prefill alone, and of as many answers as D has seats; seconds, medians."""
        tokens, router = self.scenario.prompt_tokens, self._router()
        prefills, answers = [], []
        for number in range(_MEASURED):
            references = []
            for prompt in draw_equal_prompts(self.scenario.seats, seed=_SEED + 2 + number, tokens=tokens):
                begun = time.monotonic()
                references.append(await router.prefill(prompt))
                prefills.append(time.monotonic() - begun)
            begun = time.monotonic()
            await asyncio.gather(*(router.decode(ref, self.scenario.answer_tokens) for ref in references))
            answers.append(time.monotonic() - begun)
        return statistics.median(prefills), statistics.median(answers)

    async def kill(self) -> float:
        """Sends SIGKILL to the first D; returns when, by time.monotonic."""
        return await asyncio.to_thread(self.decoders[0].kill)

    async def _client(self, prompts: "itertools.cycle[str]") -> None:
        while True:
            prompt = next(prompts)
            while not await self._one(prompt):
                self.again += 1

    async def _one(self, prompt: str) -> bool:
        """Tells whether the prompt was answered; one that was not has to be prefilled again, as plain routers do."""
        router = self._router()
        try:
            reference = await router.prefill(prompt)
        except PrefillError:
            return False
        self.prefills.append(time.monotonic())
        return await self._decode(reference)

    async def _decode(self, reference: Reference) -> bool:
        while True:
            router = self._router()
            try:
                return bool((await router.decode(reference, self.scenario.answer_tokens)).token_ids)
            except httpx.TransportError as error:
                if self._dead and router.decode_url == self.decoders[1].url:
                    raise
                self._dead = True
                # A request that never reached the dead one goes to the other with the reference that it has.
                if not isinstance(error, httpx.ConnectError):
                    return False

    def _router(self) -> Router:
        return Router(self.client, self.producer.url, self.decoders[1 if self._dead else 0].url)

    async def _sample(self) -> None:
        blocks = self.producer.spec.num_blocks - 1
        while True:
            page = (await self.client.get(f"{self.producer.url}/metrics")).text
            found = _USAGE.search(page)
            if found is None:
                raise EngineError(f"P's /metrics has no {CACHE_USAGE}")
            self.held.append((time.monotonic(), round(float(found[1]) * blocks)))
            await asyncio.sleep(SAMPLE_EVERY_S)


@asynccontextmanager
async def _running(failover: Failover) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(failover.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def crash(scenario: CrashScenario, producer: Engine, decoders: list[Engine]) -> CrashRun:
    """Plays one crash of the first D. Raises EngineError and httpx.TransportError where something else fails."""
    async with open_client(timeout_s=_TIMEOUT_S) as client:
        failover = Failover(scenario, client, producer, decoders)
        await failover.warm_up()
        prefill_s, answer_s = await failover.measure()
        async with _running(failover) as traffic:
            await _while_it_runs(traffic, scenario.settle_s + scenario.before_s)
            killed = await failover.kill()
            await _while_it_runs(traffic, killed + scenario.after_s - time.monotonic())
    return CrashRun(
        prefills=[at - killed for at in failover.prefills],
        held=[(at - killed, blocks) for at, blocks in failover.held],
        before_s=scenario.before_s,
        after_s=scenario.after_s,
        again=failover.again,
        prefill_s=prefill_s,
        answer_s=answer_s,
    )


async def _while_it_runs(traffic: asyncio.Task[None], seconds: float) -> None:
    """Waits for so long. Raises what the traffic raises, as soon as it does."""
    done, _ = await asyncio.wait([traffic], timeout=seconds)
    for task in done:
        task.result()
