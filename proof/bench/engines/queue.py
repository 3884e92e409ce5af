"""Two saturated cores, and requests that wait in D's queue for many terms of their leases.

P computes other clients' prompts without pause. D's seats are all taken and so is its memory, and whoever comes waits
in its queue: first come, first served, so every request waits for as long as all before it take. (A D with memory to
spare reads all that waits for it as soon as a seat is free.) Nobody aborts, so each lease is wanted until D has read
the blocks, and every lease that P takes back is a false expiry.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass, field

import httpx

from kvlease.metrics.scraped import Metrics
from proof.demo.outcome import read_counts
from proof.realengines.engine import Engine
from proof.realengines.prompts import draw_equal_prompts, draw_prompts
from proof.realengines.router import Router, open_client
from proof.realengines.spec import Connector

LOOK_EVERY_S = 2.0
_SEED = 8801
_OTHERS_SEED = 8802
_QUEUE_TIME = "vllm:request_queue_time_seconds"


@dataclass(frozen=True)
class Queue:
    """The numbers of the scenario."""

    seats: int = 4
    """The requests that D decodes at a time."""
    waiting: int = 40
    """The requests with a lease that wait for a seat, all the time."""
    prompt_tokens: int = 1000
    answer_tokens: int = 192
    others: int = 3
    """The clients that have P compute prompts, one after the other, which nobody reads."""
    others_shortest: int = 500
    others_longest: int = 3000
    producer_blocks: int = 2000
    """P's blocks, which are always enough."""
    decoder_blocks: int = 153
    """D's blocks: as many as the requests on its seats take in the end; no other has room, and none is preempted."""
    max_model_len: int = 4096
    """The longest request of both engines, in tokens."""


@dataclass
class Life:
    """The life of the leases of one trial."""

    began: float
    """The time of the beginning, by time.monotonic."""
    lived_s: float = 0.0
    false_expiries: int = 0
    first_expiry_s: float | None = None
    """The time from the beginning to the first false expiry, to `LOOK_EVERY_S`."""
    leases: int = 0
    renewals: int = 0
    """Renewals that P heard; kvlease only."""
    waited_s: float = 0.0
    """The mean time that requests waited in D's queue."""
    failed: int = 0
    """Requests that got no answer."""


@dataclass
class _Traffic:
    router: Router
    queue: Queue
    leases: int = 0
    failed: int = 0
    prompts: "itertools.cycle[str]" = field(init=False)
    others: "itertools.cycle[str]" = field(init=False)

    def __post_init__(self) -> None:
        self.prompts = itertools.cycle(draw_equal_prompts(60, seed=_SEED, tokens=self.queue.prompt_tokens))
        shortest, longest = self.queue.others_shortest, self.queue.others_longest
        self.others = itertools.cycle(draw_prompts(60, seed=_OTHERS_SEED, shortest=shortest, longest=longest))

    async def client(self) -> None:
        """Sends one request after the other through P and D."""
        while True:
            reference = await self.router.prefill(next(self.prompts))
            self.leases += 1
            answer = await self.router.decode(reference, self.queue.answer_tokens)
            self.failed += not answer.token_ids

    async def other(self) -> None:
        """Sends one prompt after the other through P alone."""
        while True:
            answer = await self.router.compute_alone(self.router.prefill_url, next(self.others), max_tokens=1)
            answer.tokens_or_raise("P cannot compute a prompt")


async def live(connector: Connector, producer: Engine, decoder: Engine, queue: Queue, lives_s: float) -> Life:
    """Plays until the first false expiry, or for `lives_s`. Raises EngineError and httpx.TransportError."""
    async with open_client(timeout_s=600.0) as client:
        traffic = _Traffic(Router(client, producer.url, decoder.url), queue)
        await _get_to_know(traffic, producer)
        before = await asyncio.to_thread(producer.metrics), await asyncio.to_thread(decoder.metrics)
        life = Life(began=time.monotonic())
        async with asyncio.TaskGroup() as tasks:
            sent = [tasks.create_task(traffic.client()) for _ in range(queue.seats + queue.waiting)]
            sent += [tasks.create_task(traffic.other()) for _ in range(queue.others)]
            await _watch(connector, producer, before[0], life, lives_s)
            life.lived_s = time.monotonic() - life.began
            # The counters are read before the clients hang up, since nobody wants what ends after that.
            producer_counts = await asyncio.to_thread(producer.metrics)
            decoder_counts = await asyncio.to_thread(decoder.metrics)
            for task in sent:
                task.cancel()
    life.leases, life.failed = traffic.leases, traffic.failed
    life.renewals = round(_grown("kvlease:renewals_total", before[0], producer_counts))
    queued = _grown(f"{_QUEUE_TIME}_count", before[1], decoder_counts)
    life.waited_s = _grown(f"{_QUEUE_TIME}_sum", before[1], decoder_counts) / queued if queued else 0.0
    return life


async def _get_to_know(traffic: _Traffic, producer: Engine) -> None:
    """Sends the first requests, which open sessions and warm the engines; the leases live from then on."""
    for _ in range(3):
        reference = await traffic.router.prefill(next(traffic.prompts))
        await traffic.router.decode(reference, 2)
    await asyncio.to_thread(producer.wait_until, lambda: producer.held_blocks() == 0, "without held blocks")


async def _watch(connector: Connector, producer: Engine, before: Metrics, life: Life, lives_s: float) -> None:
    lost_before = read_counts(connector, before, Metrics(())).leases_lost
    while time.monotonic() < life.began + lives_s:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            metrics = await asyncio.to_thread(producer.metrics)
        except httpx.TimeoutException:
            continue
        life.false_expiries = read_counts(connector, metrics, Metrics(())).leases_lost - lost_before
        if life.false_expiries:
            life.first_expiry_s = time.monotonic() - life.began
            return


def _grown(name: str, before: Metrics, after: Metrics) -> float:
    return after.value(name) - before.value(name)
