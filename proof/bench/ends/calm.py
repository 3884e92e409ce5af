"""Reads one after the other, nothing else going on: the time for which what was read stays out of P's pool."""

import time
from collections.abc import Mapping

from proof.bench.ends.found import Calm, Found
from proof.bench.ends.pairs import EndsPair
from proof.bench.frame.progress import say
from proof.realengines.prompts import draw_equal_prompts
from proof.realengines.spec import CONNECTORS, Connector

PROMPT_TOKENS = 1500
WARM_UP = 3
"""The requests of each pair that are not counted: the first ones shake hands."""
_SEED = 8000


async def calm(pairs: Mapping[Connector, EndsPair], found: Found, requests: int, workers: int) -> None:
    """Both connectors take turns, request by request, with the same prompts; each goes first as often. `workers`: P's
    tensor parallelism."""
    say(f"ends: {requests} requests one after the other, P with {workers} worker{'s' * (workers > 1)}")
    for connector in CONNECTORS:
        found[connector].calm[workers] = Calm()
    prompts = draw_equal_prompts(WARM_UP + requests, seed=_SEED + workers, tokens=PROMPT_TOKENS)
    for number, prompt in enumerate(prompts):
        for connector in CONNECTORS if number % 2 else reversed(CONNECTORS):
            held_ms, after_ms = await _one(pairs[connector], prompt)
            if number >= WARM_UP:
                found[connector].calm[workers].held_ms.append(held_ms)
                found[connector].calm[workers].after_ms.append(after_ms)


async def _one(pair: EndsPair, prompt: str) -> tuple[float, float]:
    began = time.monotonic()
    reference = await pair.router.prefill(prompt)
    offered = time.monotonic()
    answer = await pair.router.decode(reference, 1)
    answered = time.monotonic()
    answer.tokens_or_raise(pair.d.spec.name)
    whole = await pair.whole_at(began)
    return 1000 * (whole - offered), 1000 * (whole - answered)
