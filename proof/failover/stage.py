"""The engines of one connector, one P and two Ds, and all that befalls them."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx

from proof.failover.outcome import FailoverFault
from proof.failover.traffic import PATIENCE_S, RightTokens
from proof.realengines.cores import Cores
from proof.realengines.engine import Engine, EngineError
from proof.realengines.metrics import RUNNING, WAITING
from proof.realengines.prompts import draw_equal_prompts
from proof.realengines.router import Answer, Router, completion
from proof.realengines.spec import Connector, EngineSpec

ANSWER_TOKENS = 48
PRODUCER_BLOCKS = 200
"""P's blocks: few, so that what is freed is soon given to others."""
DECODER_BLOCKS = 600
DECODER_SEATS = 4
"""The requests that a D runs at a time: few, so that others wait there for their first token."""
MOST_QUEUED = 24
"""The requests that a D takes before it answers 503 (`--max-num-queued-reqs`): more than there are clients."""
DRAIN_S = 30
"""The time that a D has for the requests that it runs when it is told to end (`--shutdown-timeout`)."""
AFTER_S = 5.0
"""The time for which traffic goes on after most faults."""
STOPPED_S = PATIENCE_S + 3.0
"""The time for which a D is stopped: longer than any client waits."""
_OCCUPANT_TOKENS = 7500
_SEED = 9400
_FREE_WITHIN_S = 60.0


class PrefillCount(NamedTuple):
    """The prompts that P has computed since it started, and their tokens."""

    prompts: int
    tokens: int


@dataclass
class FailoverStage:
    """One P and two Ds. `hit` is the D that most faults befall, `spare` the one that has to do its work then."""

    connector: Connector
    p: Engine
    hit: Engine
    spare: Engine
    http: httpx.AsyncClient

    @classmethod
    def of(
        cls, connector: Connector, model: Path, logs: Path, cores: Cores, http: httpx.AsyncClient, life: ExitStack
    ) -> Self:
        """Makes the engines, which are not started yet; they end with `life`."""
        # A prefill that D cannot read fails, which is vLLM's default: what is computed a second time is seen on P.
        shared: dict[str, Any] = {
            "model": model,
            "connector": connector,
            "load_failure_policy": "fail",
            "prefix_caching": False,
        }
        limits = ("--max-num-queued-reqs", str(MOST_QUEUED), "--shutdown-timeout", str(DRAIN_S))
        p = EngineSpec(
            name=f"{connector}-p", role="kv_producer", cores=(cores.producer,), num_blocks=PRODUCER_BLOCKS, **shared
        )
        hit, spare = (
            EngineSpec(
                name=f"{connector}-d{number}",
                role="kv_consumer",
                cores=(cores.decoder,),
                num_blocks=DECODER_BLOCKS,
                max_num_seqs=DECODER_SEATS,
                max_model_len=8192,
                extra_args=limits,
                **shared,
            )
            for number in (1, 2)
        )
        stage = cls(connector, Engine(p, logs), Engine(hit, logs), Engine(spare, logs), http)
        for engine in (stage.p, stage.hit, stage.spare):
            life.callback(engine.close)
        return stage

    async def start(self) -> None:
        """Starts what is not running, and waits until P and each D have met."""
        engines = [engine for engine in (self.p, self.hit, self.spare) if not engine.is_alive()]
        for engine in engines:
            engine.start()
        await asyncio.gather(*(asyncio.to_thread(engine.wait_ready) for engine in engines))
        for decoder in (self.hit, self.spare):
            router = Router(self.http, self.p.url, decoder.url)
            (prompt,) = draw_equal_prompts(1, seed=_SEED, tokens=200)
            answer = await router.decode(await router.prefill(prompt), 4)
            answer.tokens_or_raise(f"{decoder.spec.name} does not answer")
        await self.wait_free()

    async def wait_free(self) -> None:
        """Waits until P holds nothing of what was before."""
        await asyncio.to_thread(
            self.p.wait_until, lambda: self.p.held_blocks() == 0, "without held blocks", _FREE_WITHIN_S
        )

    async def right_answers(self, prompts: Sequence[str]) -> dict[str, RightTokens]:
        """Lets a D, alone and undisturbed, compute every prompt."""
        router = Router(self.http, self.p.url, self.spare.url)
        # Not all at once: it would answer 503.
        turns = asyncio.Semaphore(DECODER_SEATS)

        async def right(prompt: str) -> RightTokens:
            async with turns:
                answer = await router.compute_alone(self.spare.url, prompt, ANSWER_TOKENS)
            return answer.tokens_or_raise("D cannot answer by itself")

        return dict(zip(prompts, await asyncio.gather(*map(right, prompts)), strict=True))

    def prefilled(self) -> PrefillCount:
        """Reads what P has computed since it started."""
        found = self.p.metrics()
        done = found.by_label("vllm:request_success_total", "finished_reason")
        return PrefillCount(round(sum(done.values())), round(found.value("vllm:prompt_tokens_total")))

    async def wait_idle(self) -> None:
        """Waits until P computes nothing any more, and has said so."""
        await asyncio.to_thread(
            self.p.wait_for_metrics, lambda m: m.value(RUNNING) + m.value(WAITING) == 0, "idle", _FREE_WITHIN_S
        )

    # -- faults --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def befallen(self, fault: FailoverFault) -> AsyncIterator[float]:
        """Lets it happen, and yields when it did. When this is left, what can go on again does."""
        async with AsyncExitStack() as stack:
            began = time.monotonic()
            if fault == "killed":
                began = await asyncio.to_thread(self.hit.kill)
            elif fault == "stopped":
                self.hit.pause()
                stack.callback(self.hit.resume)
            elif fault == "draining":
                gone = asyncio.create_task(asyncio.to_thread(self.hit.terminate, DRAIN_S + 5.0))
                stack.push_async_callback(asyncio.wait, [gone])
            elif fault == "full":
                began = await stack.enter_async_context(self._filled())
            else:
                began = await asyncio.to_thread(self.p.kill)
                self.p.start()
            yield began

    async def outlast(self, fault: FailoverFault) -> None:
        """Waits for as long as traffic is to go on under a fault."""
        if fault == "p-killed":
            await asyncio.to_thread(self.p.wait_ready)
        await asyncio.sleep(STOPPED_S if fault == "stopped" else AFTER_S)

    @asynccontextmanager
    async def _filled(self) -> AsyncIterator[float]:
        """Fills the queue of a D with requests of our own, until it takes no more; yields when that was."""
        (prompt,) = draw_equal_prompts(1, seed=_SEED + 1, tokens=64)
        body = completion(prompt, _OCCUPANT_TOKENS)
        router = Router(self.http, self.p.url, self.hit.url)
        occupants = [asyncio.create_task(router.answer(self.hit.url, body)) for _ in range(2 * MOST_QUEUED)]
        try:
            yield await _first_refusal(occupants)
        finally:
            for occupant in occupants:
                occupant.cancel()
            await asyncio.gather(*occupants, return_exceptions=True)


async def _first_refusal(occupants: "Sequence[asyncio.Task[Answer]]") -> float:
    """Returns when the first of them was refused. Raises EngineError where none is."""
    done, _ = await asyncio.wait(occupants, timeout=_FREE_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    statuses = {task.result().status for task in done}
    if statuses != {httpx.codes.SERVICE_UNAVAILABLE}:
        raise EngineError(f"a full D answered {statuses or 'nothing'} and not 503")
    return time.monotonic()
