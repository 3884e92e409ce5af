"""Clients that leave at any moment of their request's life: nothing is stranded, and the next answer is right."""

import asyncio
import time
from contextlib import suppress

import httpx
import pytest

from proof.realengines.prompts import draw_prompts
from proof.realengines.router import Reference, completion
from tests.realengines.pairs import TOKENS, Pair, Scene, begin

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

MOMENTS = 12
ANSWER_TOKENS = 48
RETURNED = "kvlease:returned_leases_total"


@pytest.fixture(scope="module")
def pair(shared_pair: Pair) -> Pair:
    return shared_pair


def test_a_client_leaves_in_every_phase(pair: Pair) -> None:
    """vllm 41269, 29906, 19223: a client leaves during its prefill, before its decode, while its blocks are read, while
    it decodes. P frees at once, not at the end of the term; the same prompt is then read and answered rightly."""

    async def scene(s: Scene) -> None:
        prompts = draw_prompts(MOMENTS + 1, seed=200, shortest=2000, longest=2400)

        async def live(prompt: str) -> None:
            reference = await s.router.prefill(prompt)
            await s.router.decode(reference, ANSWER_TOKENS)

        began = time.monotonic()
        await live(prompts.pop())
        whole_s = time.monotonic() - began
        for moment, prompt in enumerate(prompts):
            request = begin(live(prompt))
            # A fixed time has to pass: the phases are those of a request that nobody aborts.
            await asyncio.sleep(whole_s * moment / MOMENTS)
            request.cancel()
            with suppress(asyncio.CancelledError, httpx.TransportError):
                await request
        await s.wait_drained()
        await s.reuse_blocks()
        for prompt in prompts[:: MOMENTS // 3]:
            reference = await s.router.prefill(prompt)
            await s.check([reference], [await s.router.decode(reference, 8)])

    before = pair.lease_ends()
    pair.play(scene)
    pair.wait_drained()
    pair.wait_no_lease_out()
    after = pair.lease_ends()
    ended = {cause: after[cause] - before.get(cause, 0) for cause in after if after[cause] != before.get(cause, 0)}
    # No engine hears of a client that leaves between P's answer and D's question: its lease alone may have to expire.
    assert ended.get("expired", 0) <= 1, ended
    assert ended["released"] > MOMENTS / 3


async def refused(s: Scene, reference: Reference, **params: str) -> None:
    """D is sent the reference, and these params beside it, for a model that there is not."""
    unknown = completion(reference.prompt, TOKENS) | {
        "model": "no such model",
        "kv_transfer_params": {**reference.kv_transfer_params, **params},
    }
    answer = await s.router.answer(s.pair.d.url, unknown)
    assert answer.status == httpx.codes.NOT_FOUND


def test_a_request_that_d_refuses_lets_go_of_its_prefill(pair: Pair) -> None:
    """vllm 41269: vLLM tells the connector by a request of its own, whose prompt is one token, not the one computed."""

    async def scene(s: Scene) -> None:
        await refused(s, await s.router.prefill(draw_prompts(1, seed=201)[0]))
        await s.wait_drained()

    with pair.counting(ends={"released": 1}, checks={}):
        pair.play(scene)


def test_a_request_that_d_refuses_leaves_its_lease_to_another_engine_where_its_router_asks_for_it(pair: Pair) -> None:
    """R12: D says nothing to P; whoever comes next with the reference claims it for the first time."""
    returned = pair.d.metrics().value(RETURNED)

    async def scene(s: Scene) -> None:
        reference = await s.router.prefill(draw_prompts(1, seed=202)[0])
        held = s.pair.p.held_blocks()
        await refused(s, reference, kv_lease_on_reject="return")
        await s.wait(s.pair.d, lambda m: m.value(RETURNED) == returned + 1, "known to have left a lease to others")
        assert s.pair.p.held_blocks() == held > 0
        await s.check([reference], [await s.router.decode(reference, TOKENS)])

    with pair.counting(ends={"released": 1}, checks={"intact": 1}):
        pair.play(scene)
