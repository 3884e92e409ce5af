"""A reference that is sent once more: after D let go of the first request in its queue, and after it was read."""

import time
from collections.abc import Mapping

from proof.bench.ends.found import ArmFound, Found
from proof.bench.ends.pairs import EndsPair, dismiss
from proof.bench.frame.progress import say
from proof.realengines.prompts import draw_prompts
from proof.realengines.spec import Connector

_SEED, _ABORTED_SEED = 8400, 8500


async def again(pairs: Mapping[Connector, EndsPair], found: Found, references: int) -> None:
    """One pair after the other, as D is busy meanwhile."""
    for arm, pair in pairs.items():
        say(f"ends: {references} references sent once more, {arm}")
        await _after_read(pair, found[arm], references)
        await _after_abort(pair, found[arm], references)


async def _after_read(pair: EndsPair, found: ArmFound, references: int) -> None:
    prompts = draw_prompts(references, seed=_SEED, shortest=500, longest=1500)
    right = await pair.rights(prompts)
    for prompt in prompts:
        began = time.monotonic()
        reference = await pair.router.prefill(prompt)
        await pair.read([reference], right)
        await pair.whole_at(began)
        found.after_read += await pair.read([reference], right)


async def _after_abort(pair: EndsPair, found: ArmFound, references: int) -> None:
    prompts = draw_prompts(references, seed=_ABORTED_SEED, shortest=500, longest=1500)
    right = await pair.rights(prompts)
    for prompt in prompts:
        async with pair.busy():
            began = time.monotonic()
            reference = await pair.router.prefill(prompt)
            waiting = pair.begin([reference])
            await pair.wait_waiting(1)
            await dismiss(waiting)
            await pair.whole_at(began)
        found.after_abort += await pair.read([reference], right)
