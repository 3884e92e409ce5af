"""The stage of every scenario: the engines, the lease, and requests that wait on D."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from kvlease.console.progress import Story
from kvlease.metrics.scraped import Metrics
from proof.demo.outcome import Counts, read_counts
from proof.realengines.engine import Engine
from proof.realengines.metrics import RUNNING, WAITING
from proof.realengines.prompts import draw_equal_prompts
from proof.realengines.router import Answer, Reference, Router
from proof.realengines.spec import BLOCK_TOKENS, Connector

REQUESTS = 6
ANSWER_TOKENS = 16
PRODUCER_BLOCKS = 480
"""P's blocks: few, so that a few new prompts reach every block that is free."""
PRODUCER_TOKENS = 4096
DECODER_BLOCKS = 480
DECODER_TOKENS = 8192

# Longer than any scenario; the request is cancelled when its time has come.
_OCCUPANT_TOKENS = 7500
_OCCUPANT_PROMPT_TOKENS = 200
_NEW_PROMPT_BLOCKS = 93
_FILLER_SEED = 1812
_OCCUPANT_SEED = 1813
_QUEUED_WITHIN_S = 60.0


@dataclass
class Stage:
    """One P, one D and a router between them. `lease_s` is P's lease duration."""

    connector: Connector
    producer: Engine
    decoder: Engine
    client: httpx.AsyncClient
    lease_s: float
    story: Story
    new_prompts: "itertools.cycle[str]" = field(
        default_factory=lambda: itertools.cycle(
            draw_equal_prompts(40, seed=_FILLER_SEED, tokens=_NEW_PROMPT_BLOCKS * BLOCK_TOKENS)
        )
    )

    @property
    def router(self) -> Router:
        """The router from P to D."""
        return Router(self.client, self.producer.url, self.decoder.url)

    async def right_answers(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """Returns P's answers when it computes the prompts itself. Raises EngineError if it does not answer."""
        answers = [await self.router.compute_alone(self.producer.url, prompt, ANSWER_TOKENS) for prompt in prompts]
        return [answer.tokens_or_raise("P cannot answer by itself") for answer in answers]

    async def one_new_prompt(self) -> None:
        """P computes a new prompt by itself, and forgets it."""
        await self._compute_on_producer(next(self.new_prompts), max_tokens=1)

    async def overwrite_free_blocks(self) -> None:
        """P computes so many new prompts at once that together they take every block that is free.

        They have to come at once: without prefix caching vLLM hands out first what was freed last, and one prompt after
        the other would get the same blocks.
        """
        held = await asyncio.to_thread(self.producer.held_blocks)
        sizes = fill(self.producer.spec.num_blocks - 1 - held)
        prompts = [next(self.new_prompts)[: size * BLOCK_TOKENS] for size in sizes]
        # Each answer fills one more block, which keeps the first prompt there until the last has come.
        await asyncio.gather(*(self._compute_on_producer(prompt, max_tokens=BLOCK_TOKENS) for prompt in prompts))

    async def _compute_on_producer(self, prompt: str, max_tokens: int) -> None:
        answer = await self.router.compute_alone(self.producer.url, prompt, max_tokens)
        answer.tokens_or_raise("P cannot compute a new prompt")

    async def restart_decoder(self) -> None:
        """Starts D again, as another incarnation that knows nothing of what the dead one had."""
        self.decoder.start()
        with self.story.busy("another D starts"):
            await asyncio.to_thread(self.decoder.wait_ready)
        self.story.say("another D is there, and is sent the same references")

    async def counts(self) -> Counts:
        """Reads what both engines have counted since they started."""
        producer = await asyncio.to_thread(self.producer.metrics)
        decoder = await asyncio.to_thread(self.decoder.metrics)
        return read_counts(self.connector, producer, decoder)

    async def leases_lost_since(self, earlier: Counts) -> int:
        """Leases that P has ended since then. Asks P alone: D may be standing still."""
        producer = await asyncio.to_thread(self.producer.metrics)
        return read_counts(self.connector, producer, Metrics(())).leases_lost - earlier.leases_lost


@dataclass
class WaitingRequests:
    """Requests that D knows and has not begun, behind one that occupies its only seat.

    Attributes: `references`: what P said of each. `answers`: those of D, in the same order.
    """

    occupant: "asyncio.Task[Answer]"
    references: list[Reference]
    answers: "list[asyncio.Task[Answer]]"
    since: float

    async def let_them_run(self) -> list[Answer]:
        """Ends the request in front of them, and waits for all answers."""
        self.occupant.cancel()
        return list(await asyncio.gather(*self.answers))


@asynccontextmanager
async def waiting_on_decoder(stage: Stage, prompts: Sequence[str]) -> AsyncIterator[WaitingRequests]:
    """P prefills the prompts, D gets each of them at once and is busy with something else."""
    async with occupied(stage) as occupant, queued(stage, prompts) as (references, answers):
        await wait_for(
            stage.decoder,
            lambda m: m.value(WAITING) >= len(prompts),
            f"holding {len(prompts)} waiting requests",
            _QUEUED_WITHIN_S,
        )
        held = await asyncio.to_thread(stage.producer.held_blocks)
        stage.story.say(f"{len(prompts)} requests wait on D; P holds {held} of {PRODUCER_BLOCKS - 1} blocks for them")
        yield WaitingRequests(occupant, references, answers, time.monotonic())


@asynccontextmanager
async def occupied(stage: Stage) -> "AsyncIterator[asyncio.Task[Answer]]":
    """A long answer occupies D's only seat until its task is cancelled, or this is left."""
    (prompt,) = draw_equal_prompts(1, seed=_OCCUPANT_SEED, tokens=_OCCUPANT_PROMPT_TOKENS)
    occupant = asyncio.create_task(stage.router.compute_alone(stage.decoder.url, prompt, _OCCUPANT_TOKENS))
    try:
        await wait_for(stage.decoder, lambda m: m.value(RUNNING) == 1, "busy", _QUEUED_WITHIN_S)
        yield occupant
    finally:
        await _end([occupant])


@asynccontextmanager
async def queued(
    stage: Stage, prompts: Sequence[str]
) -> "AsyncIterator[tuple[list[Reference], list[asyncio.Task[Answer]]]]":
    """Each prompt is prefilled on P and then sent on to D; what is not answered when this is left is cancelled."""
    references: list[Reference] = []
    answers: list[asyncio.Task[Answer]] = []
    try:
        for prompt in prompts:
            references.append(await stage.router.prefill(prompt))
            answers.append(asyncio.create_task(stage.router.decode(references[-1], ANSWER_TOKENS)))
        yield references, answers
    finally:
        await _end(answers)


async def _end(tasks: "Sequence[asyncio.Task[Answer]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def wait_for(engine: Engine, condition: Callable[[Metrics], bool], what: str, timeout_s: float) -> Metrics:
    """`Engine.wait_for_metrics`, without holding up the event loop."""
    return await asyncio.to_thread(engine.wait_for_metrics, condition, what, timeout_s)


def fill(free_blocks: int) -> list[int]:
    """The sizes, in blocks, of prompts that take all free blocks, if the answer to each takes one block besides."""
    whole, rest = divmod(free_blocks, _NEW_PROMPT_BLOCKS + 1)
    return [_NEW_PROMPT_BLOCKS] * whole + ([rest - 1] if rest > 1 else [])
