"""Leases that wait: what P costs meanwhile, a pause of P, the death of D, and the end of P."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from kvlease.up.processes import group_members
from proof.bench.ends.found import ArmFound, Found
from proof.bench.ends.pairs import KEEP, EndsPair, dismiss, judged, post
from proof.bench.engines.pair import processor_s
from proof.bench.frame.progress import say
from proof.realengines.engine import Engine
from proof.realengines.prompts import draw_prompts
from proof.realengines.spec import Connector

LEASES = 3
SHUTDOWN_TIMEOUT_S = 30
TOLD_S = 3.0
"""The time that passes between P's being told to end and the read."""
_SETTLE_S = 1.0
"""The time that a claim gets to reach P."""
_SEED = 8600


async def waiting(pairs: Mapping[Connector, EndsPair], found: Found, watched_s: float) -> None:
    """One pair after the other: what P takes while leases wait, and two pauses of P."""
    for arm, pair in pairs.items():
        say(f"ends: leases that wait, {arm}")
        await _idle(pair, found[arm], watched_s)
        say(f"ends: P is paused with leases out, {arm}")
        for path, number in ((KEEP, 1), ("pause?mode=keep", 2)):
            await _pause(pair, found[arm], path, _SEED + number)


async def _idle(pair: EndsPair, found: ArmFound, watched_s: float) -> None:
    found.rests_share.append(await _share(pair.p, watched_s))
    async with _wait_on_busy(pair, _SEED):
        found.waits_share.append(await _share(pair.p, watched_s))


@asynccontextmanager
async def _wait_on_busy(pair: EndsPair, seed: int) -> AsyncIterator[float]:
    """Lets D, which is busy, have requests in its queue while it lasts, claimed at P. Yields when it began."""
    async with pair.busy():
        began = time.monotonic()
        references = await pair.prefill(draw_prompts(LEASES, seed=seed, shortest=500, longest=1500))
        sent = pair.begin(references)
        try:
            await pair.wait_waiting(LEASES)
            await asyncio.sleep(_SETTLE_S)
            yield began
        finally:
            await dismiss(sent)
    await pair.whole_at(began)


async def _share(engine: Engine, watched_s: float) -> float:
    """The share of a core, in %, that an engine takes for so long."""
    before_s, began = processor_s(engine), time.monotonic()
    await asyncio.sleep(watched_s)
    return 100 * (processor_s(engine) - before_s) / (time.monotonic() - began)


async def _pause(pair: EndsPair, found: ArmFound, path: str, seed: int) -> None:
    """D is paused with requests that wait; P is paused, and both are resumed."""
    prompts = draw_prompts(LEASES, seed=seed, shortest=500, longest=1500)
    right = await pair.rights(prompts)
    await post(pair.d, KEEP)
    references = await pair.prefill(prompts)
    sent = pair.begin(references)
    await asyncio.sleep(_SETTLE_S)
    took_s = await post(pair.p, path)
    await post(pair.p, "resume")
    resumed = time.monotonic()
    await post(pair.d, "resume")
    answers = await asyncio.gather(*sent)
    # They are answered together: who was computed again is not told apart, and one stands for all.
    computed = pair.d_watch.computed(resumed)
    for reference, answer in zip(references, answers, strict=True):
        read = judged(answer, right[reference.prompt], computed)
        if path == KEEP:
            found.after_pause += read
        else:
            found.after_reset += read
    (found.pause_s if path == KEEP else found.reset_s).append(took_s)


async def deaths(pairs: Mapping[Connector, EndsPair], found: Found, count: int) -> None:
    """D is killed with requests in its queue, and started again."""
    for number in range(count):
        for arm, pair in pairs.items():
            say(f"ends: D is killed, {arm}, {number + 1} of {count}")
            if number:
                pair.d.start()
                await asyncio.to_thread(pair.d.wait_ready)
            found[arm].usable_s.append(await _death(pair, _SEED + 10 + number))


async def _death(pair: EndsPair, seed: int) -> float:
    async with pair.busy():
        began = time.monotonic()
        references = await pair.prefill(draw_prompts(LEASES, seed=seed, shortest=500, longest=1500))
        sent = pair.begin(references)
        await pair.wait_waiting(LEASES)
        await asyncio.sleep(_SETTLE_S)
        killed = await asyncio.to_thread(pair.d.kill)
        whole = await pair.whole_at(began)
        await asyncio.gather(*sent, return_exceptions=True)
    return whole - killed


async def stays(pairs: Mapping[Connector, EndsPair], found: Found) -> None:
    """P, which has `--shutdown-timeout`, is told to end while a lease is out; D reads it some seconds later."""
    for arm, pair in pairs.items():
        say(f"ends: P is told to end with a lease out, {arm}")
        await _stay(pair, found[arm])


async def _stay(pair: EndsPair, found: ArmFound) -> None:
    prompts = draw_prompts(2, seed=_SEED + 30, shortest=500, longest=1500)
    right = await pair.rights(prompts)
    met, out = await pair.prefill(prompts)
    # The engines have met when P is told to end.
    await pair.read([met], right)
    group = pair.p.process_group
    ending = asyncio.create_task(asyncio.to_thread(pair.p.terminate, SHUTDOWN_TIMEOUT_S + 10.0))
    await asyncio.sleep(TOLD_S)
    found.stayed.append(any(member.title.startswith("VLLM::EngineCore") for member in group_members(group)))
    found.after_stay += await pair.read([out], right)
    read = time.monotonic()
    await ending
    found.ended_s.append(time.monotonic() - read)
