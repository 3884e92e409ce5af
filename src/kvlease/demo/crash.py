"""Decoder crash: D is killed while requests wait on it; how long does P hold their blocks for nobody?"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass

from kvlease.cluster.metrics import WAITING
from kvlease.cluster.prompts import draw_prompts
from kvlease.demo.outcome import Event, Outcome
from kvlease.demo.stage import REQUESTS, Stage, occupied, queued, wait_for
from kvlease.demo.watch import HeldBlocksWatch

RENEWED_AFTER_LEASES = 1 / 6
"""How long the requests wait before the crash, in lease durations: one interval of renewals."""

_SEED = 404
_QUEUED_WITHIN_S = 60.0
_FREE_WITHIN_LEASES = 2


@dataclass(frozen=True)
class Producer:
    """One P of this scenario, by what is special about it ("grace 1 s", ...)."""

    label: str
    stage: Stage


async def play(producers: Sequence[Producer]) -> Outcome:
    """All producers share one D, whose one crash they all have to notice. Their requests are shared out evenly."""
    first = producers[0].stage
    decoder = first.decoder
    prompts = draw_prompts(REQUESTS, seed=_SEED)
    with ExitStack() as watching:
        watches = [watching.enter_context(HeldBlocksWatch(p.stage.producer, series_label(p))) for p in producers]
        async with AsyncExitStack() as waiting:
            await waiting.enter_async_context(occupied(first))
            for number, producer in enumerate(producers):
                await waiting.enter_async_context(queued(producer.stage, prompts[number :: len(producers)]))
            await wait_for(decoder, lambda m: m.value(WAITING) >= REQUESTS, "holding the requests", _QUEUED_WITHIN_S)
            first.show.say(f"{REQUESTS} requests wait on D; {await _held(producers)}")
            with first.show.busy("they wait until their leases have been renewed once"):
                await asyncio.sleep(RENEWED_AFTER_LEASES * first.lease_s)
            killed = time.monotonic()
            await asyncio.to_thread(decoder.kill)
            first.show.say("D is killed (SIGKILL to all its processes)")
        with first.show.busy("P holds the blocks of a consumer that is dead"):
            within_s = _FREE_WITHIN_LEASES * first.lease_s
            freed = await asyncio.gather(*(asyncio.to_thread(watch.wait_until_free, within_s) for watch in watches))
        after_s = {producer.label: at - killed for producer, at in zip(producers, freed, strict=True)}
        for label, seconds in after_s.items():
            first.show.say(f"{label}: P's blocks are free {seconds:.2f} s after the crash")
    return Outcome(
        scenario="crash",
        connector=first.connector,
        lease_s=first.lease_s,
        freed_after_s=after_s,
        held=[watch.series(killed) for watch in watches],
        events=[Event(0.0, "D killed"), *(Event(s, f"blocks free ({label})") for label, s in after_s.items())],
    )


def series_label(producer: Producer) -> str:
    """The name of a producer's curve."""
    connector = producer.stage.connector
    return connector if producer.label == connector else f"{connector}, {producer.label}"


async def _held(producers: Sequence[Producer]) -> str:
    held = [await asyncio.to_thread(producer.stage.producer.held_blocks) for producer in producers]
    return (
        f"P holds {held[0]} blocks" if len(held) == 1 else f"the producers hold {' and '.join(map(str, held))} blocks"
    )
