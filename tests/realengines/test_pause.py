"""R38: `/pause`, `/resume` and `/reset_prefix_cache` with leases out: a pause is no long step, and nothing is stranded.

Training uses them so: all engines are paused, the weights change, and all are resumed (vllm 41180, 58041).
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.realengines.metrics import RUNNING
from proof.realengines.prompts import draw_prompts
from tests.realengines.pairs import TERM_S, TOKENS, Pair, Scene, begin, consumer, post, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(240), pytest.mark.usefixtures("nothing_left")]

STALL_LIMIT_S = 3600.0
KEEP = "pause?mode=keep&clear_cache=false"
CLAIMS = "kvlease:claims_total"


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    settings = {
        "extra_env": {"VLLM_SERVER_DEV_MODE": "1"},
        "extra_config": {"kv_lease_duration": TERM_S, "kv_lease_stall_limit": STALL_LIMIT_S},
    }
    yield from running_pair(producer(model, **settings), consumer(model, **settings), logs)


async def claimed(s: Scene, before: float) -> None:
    await s.wait(s.pair.p, lambda m: m.value(CLAIMS) > before, "asked for the lease by D")


def test_a_paused_consumer_lets_its_leases_go_and_p_pauses_without_them(pair: Pair) -> None:
    """R38: D's agent stops renewing for a paused engine. P pauses without waiting, and D reads what is there yet."""

    async def scene(s: Scene) -> None:
        claims, ended = s.pair.p.metrics().value(CLAIMS), pair.lease_ends()
        await post(pair.d, KEEP)
        reference = await s.router.prefill(draw_prompts(1, seed=51, shortest=500)[0])
        decode = begin(s.router.decode(reference, TOKENS))
        await claimed(s, claims)
        await post(pair.p, KEEP)
        assert pair.lease_ends() == ended, "the pause has waited for a lease"
        await s.wait_lease_ends(ended, expired=1)
        await post(pair.p, "resume")
        await post(pair.d, "resume")
        await s.check([reference], [await decode])

    with pair.counting(ends={"expired": 1, "released": 1}, checks={"intact": 1}):
        pair.play(scene)


def test_a_lease_lives_through_a_short_pause_of_its_consumer(pair: Pair) -> None:
    """L2: the consumer's last renewal holds for an extension, and its first step after the pause renews again."""

    async def scene(s: Scene) -> None:
        claims = s.pair.p.metrics().value(CLAIMS)
        async with s.busy(pair.d):
            reference = await s.router.prefill(draw_prompts(1, seed=52, shortest=500)[0])
            decode = begin(s.router.decode(reference, TOKENS))
            await claimed(s, claims)
            await post(pair.d, KEEP)
            await asyncio.sleep(1.5)  # A fixed time has to pass: longer than it takes to see the pause.
            await post(pair.d, "resume")
            await s.wait_renewed(1.5)
        await s.check([reference], [await decode])

    with pair.counting(ends={"released": 1}, checks={"intact": 1}):
        pair.play(scene)


def test_a_pause_that_aborts_leaves_nothing_behind(pair: Pair) -> None:
    """R38: `mode=abort` on D ends the requests that wait there, and their leases with them."""

    async def scene(s: Scene) -> None:
        claims = s.pair.p.metrics().value(CLAIMS)
        async with s.busy(pair.d):
            reference = await s.router.prefill(draw_prompts(1, seed=54, shortest=500)[0])
            decode = begin(s.router.decode(reference, TOKENS))
            await claimed(s, claims)
            await post(pair.d, "pause?mode=abort")
            await decode
            await post(pair.d, "resume")

    with pair.counting(ends={"released": 1}):
        pair.play(scene)


@pytest.mark.parametrize("running_too", ["false", "true"])
def test_a_cache_that_is_reset_under_a_lease_is_not_read_any_more(pair: Pair, running_too: str) -> None:
    """S1: P resets while a lease is out, and D while it decodes: what was computed before is used by nobody after."""
    reset = f"reset_prefix_cache?reset_running_requests={running_too}"

    async def scene(s: Scene) -> None:
        prompts = draw_prompts(3, seed=55, shortest=1000, longest=1200)
        first, second = await s.prefill(prompts[:2])
        decode = begin(s.router.decode(second, 200))
        await s.wait(pair.d, lambda m: m.value(RUNNING) >= 1, "decoding")
        await s.wait_lease_ends(ended, released=1)
        await post(pair.p, reset)
        await post(pair.d, reset)
        answer = await decode
        assert answer.status == 200, answer.body
        assert answer.token_ids == await s.right(prompts[1], 200)
        await s.check([first], [await s.router.decode(first, TOKENS)])

    ended = pair.lease_ends()
    with pair.counting(ends={"released": 1, "reset": 1}):
        pair.play(scene)


def test_a_cache_is_not_reset_under_a_prefill(pair: Pair) -> None:
    """R38: while requests use blocks vLLM resets nothing, and the leases live on."""

    async def scene(s: Scene) -> None:
        reference = await s.router.prefill(draw_prompts(1, seed=56, shortest=1000)[0])
        computing = begin(s.router.compute_alone(pair.p.url, draw_prompts(1, seed=57)[0], 2000))
        await s.wait(pair.p, lambda m: m.value(RUNNING) >= 1, "computing")
        assert (await post(pair.p, "reset_prefix_cache")).json() == {"success": False}
        computing.cancel()
        await s.check([reference], [await s.router.decode(reference, TOKENS)])

    with pair.counting(ends={"released": 1}, checks={"intact": 1}):
        pair.play(scene)
