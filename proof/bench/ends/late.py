"""Reads after the term: while P's memory is free, and after others were given it."""

import asyncio
import time
from collections.abc import Mapping

from proof.bench.ends.found import ArmFound, Found
from proof.bench.ends.pairs import EndsPair
from proof.bench.frame.progress import say
from proof.realengines.prompts import draw_prompts
from proof.realengines.spec import Connector

AT_A_TIME = 3
"""The prompts whose leases are out together; P's memory has room for them."""
LATE_S = 10.0
"""The time from a prefill to its late read: five times the term."""
_LONGEST = 1500
_SEED, _REUSED_SEED = 8200, 8300


async def late(pairs: Mapping[Connector, EndsPair], found: Found, rounds: int) -> None:
    """Both pairs play at the same time, since no time is measured."""
    for number in range(rounds):
        say(f"ends: late reads, {number + 1} of {rounds}")
        await asyncio.gather(*(_late(pair, found[arm], _SEED + number) for arm, pair in pairs.items()))
        await asyncio.gather(*(_reused(pair, found[arm], _REUSED_SEED + number) for arm, pair in pairs.items()))


async def _late(pair: EndsPair, found: ArmFound, seed: int) -> None:
    prompts = draw_prompts(AT_A_TIME, seed=seed, shortest=500, longest=_LONGEST)
    right = await pair.rights(prompts)
    references = await pair.prefill(prompts)
    await asyncio.sleep(LATE_S)
    found.late += await pair.read(references, right)


async def _reused(pair: EndsPair, found: ArmFound, seed: int) -> None:
    prompts = draw_prompts(AT_A_TIME, seed=seed, shortest=500, longest=_LONGEST)
    right = await pair.rights(prompts)
    began = time.monotonic()
    references = await pair.prefill(prompts)
    await pair.whole_at(began)
    await pair.reuse()
    found.reused += await pair.read(references, right)
