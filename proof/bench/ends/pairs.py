"""The pairs of engines that take turns here, stock and kvlease, and the acts of a client and an operator with them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from kvlease.metrics.scraped import Metrics
from proof.bench.ends.found import ReadOutcomes
from proof.bench.ends.watch import Watch, launcher
from proof.bench.engines.pair import started
from proof.realengines.cores import Cores
from proof.realengines.engine import Engine, EngineError
from proof.realengines.metrics import RUNNING, WAITING
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import Answer, Reference, Router
from proof.realengines.spec import CONNECTORS, Connector, EngineSpec

TOKENS = 8
PRODUCER_BLOCKS = 200
"""P's blocks: few, so that four long prompts are given each of them."""
SEATS = 2
KEEP = "pause?mode=keep&clear_cache=false"
"""The pause after which what was computed before it is still used."""
_DECODER_BLOCKS = 600
_MAX_MODEL_LEN = 8192
_BLOCKER_TOKENS = 7900
"""The tokens of an answer that keeps a seat of D for longer than anything here takes."""
_PATIENCE_S = 120.0
_LOOK_EVERY_S = 0.02
_FILLING_SEED, _BLOCKER_SEED = 8999, 8998


@dataclass
class EndsPair:
    """P and D with the same connector, and what they write down of themselves."""

    connector: Connector
    p: Engine
    d: Engine
    p_watch: Watch
    d_watch: Watch
    router: Router

    # -- prompts -------------------------------------------------------------------------------------------------

    async def rights(self, prompts: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The right answers, which P computes alone. It is given blocks for that, so this comes before what is read."""
        found = {}
        for prompt in prompts:
            answer = await self.router.compute_alone(self.p.url, prompt, TOKENS)
            found[prompt] = answer.tokens_or_raise(f"{self.p.spec.name} alone")
        return found

    async def prefill(self, prompts: Sequence[str]) -> list[Reference]:
        return [await self.router.prefill(prompt) for prompt in prompts]

    async def read(self, references: Sequence[Reference], right: dict[str, tuple[int, ...]]) -> ReadOutcomes:
        """Has D answer each of these, one after the other, and says what came of it."""
        reads = ReadOutcomes()
        for reference in references:
            began = time.monotonic()
            answer = await self.router.decode(reference, TOKENS)
            reads += judged(answer, right[reference.prompt], self.d_watch.computed(began))
        return reads

    async def reuse(self) -> None:
        """Has P give each of its free blocks to other prompts, and write it."""
        prompts = draw_prompts(4, seed=_FILLING_SEED, shortest=2990)
        work = [self.router.compute_alone(self.p.url, prompt, TOKENS) for prompt in prompts]
        for answer in await asyncio.gather(*work):
            answer.tokens_or_raise(f"{self.p.spec.name} alone")

    # -- memory --------------------------------------------------------------------------------------------------

    async def whole_at(self, since: float, patience_s: float = _PATIENCE_S) -> float:
        """The time at which P's pool was whole again after a prefill that came after `since`. Raises EngineError where
        it is not in time."""
        deadline = time.monotonic() + patience_s
        while (whole_at := self.p_watch.whole_at(since)) is None:
            if time.monotonic() > deadline:
                raise EngineError(f"{self.p.spec.name} holds blocks {patience_s:g} s after nobody needed them")
            await asyncio.sleep(_LOOK_EVERY_S)
        return whole_at

    # -- D is busy, or paused ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """Keeps all of D's seats taken while it lasts, so that further requests wait in its queue."""
        blockers = [
            asyncio.create_task(self.router.compute_alone(self.d.url, prompt, _BLOCKER_TOKENS))
            for prompt in draw_prompts(SEATS, seed=_BLOCKER_SEED, shortest=200, longest=240)
        ]
        try:
            await _wait(self.d, lambda m: m.value(RUNNING) >= SEATS, "busy")
            yield
        finally:
            await dismiss(blockers)

    async def wait_waiting(self, requests: int) -> None:
        """Waits until so many requests wait on D."""
        await _wait(self.d, lambda m: m.value(WAITING) >= requests, f"busy, with {requests} requests waiting")

    def begin(self, references: Sequence[Reference]) -> "list[asyncio.Task[Answer]]":
        """Sends these to D, and waits for no answer."""
        return [asyncio.create_task(self.router.decode(reference, TOKENS)) for reference in references]


def judged(answer: Answer, right: tuple[int, ...], computed: bool) -> ReadOutcomes:
    """Says what came of one request, of which it is known whether D has computed the prompt."""
    if answer.status != httpx.codes.OK:
        return ReadOutcomes(failed=1)
    if answer.token_ids != right:
        return ReadOutcomes(wrong=1)
    return ReadOutcomes(computed=1) if computed else ReadOutcomes(read=1)


async def dismiss(tasks: "Sequence[asyncio.Task[Any]]") -> None:
    """Cancels requests, as clients that leave, and waits until they have."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, httpx.TransportError):
            await task


async def post(engine: Engine, path: str) -> float:
    """Posts to an engine, as operators and trainers do; returns the seconds until it has answered."""
    async with httpx.AsyncClient(timeout=_PATIENCE_S, trust_env=False) as client:
        began = time.monotonic()
        response = await client.post(f"{engine.url}/{path}")
        took_s = time.monotonic() - began
    if response.status_code != httpx.codes.OK:
        raise EngineError(f"{engine.spec.name} answered {path} with {response.status_code}: {response.text[:300]}")
    return took_s


async def _wait(engine: Engine, condition: Any, what: str) -> Metrics:
    return await asyncio.to_thread(engine.wait_for_metrics, condition, what)


@contextmanager
def started_pairs(
    client: httpx.AsyncClient, model: Path, cores: Cores, term_s: float, **producer: Any
) -> Iterator[dict[Connector, EndsPair]]:
    """Stock's and kvlease's pair, until it is left. `producer`: further settings of P."""
    with TemporaryDirectory(prefix="kvlease-ends-") as records:
        directory = Path(records)
        specs = [
            spec for connector in CONNECTORS for spec in _specs(connector, model, cores, term_s, directory, producer)
        ]
        with started(specs) as engines:
            pairs = {}
            for connector, p, d in zip(CONNECTORS, engines[::2], engines[1::2], strict=True):
                watches = [Watch(directory, engine.spec.name) for engine in (p, d)]
                pairs[connector] = EndsPair(connector, p, d, watches[0], watches[1], Router(client, p.url, d.url))
            yield pairs


def _specs(
    connector: Connector, model: Path, cores: Cores, term_s: float, directory: Path, producer: dict[str, Any]
) -> list[EngineSpec]:
    shared: dict[str, Any] = {
        "model": model,
        "connector": connector,
        # Stock takes whole seconds.
        "extra_config": {"kv_lease_duration": int(term_s)},
        # With several workers vLLM compiles the embedding at the first request, in each engine anew, for minutes where
        # others need the processor.
        "extra_env": {"VLLM_SERVER_DEV_MODE": "1", "TORCHDYNAMO_DISABLE": "1"},
    }
    p, d = f"{connector}-P", f"{connector}-D"
    return [
        EngineSpec(
            name=p,
            role="kv_producer",
            cores=(cores.producer,),
            launcher=launcher(directory, p),
            num_blocks=PRODUCER_BLOCKS,
            **shared,
            **producer,
        ),
        EngineSpec(
            name=d,
            role="kv_consumer",
            cores=(cores.decoder,),
            launcher=launcher(directory, d),
            # What D has read once it has to read again.
            prefix_caching=False,
            num_blocks=_DECODER_BLOCKS,
            max_num_seqs=SEATS,
            max_model_len=_MAX_MODEL_LEN,
            **shared,
        ),
    ]
