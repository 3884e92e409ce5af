"""R38: `/pause`, `/resume` and `/reset_prefix_cache` with leases out: a pause is no long step, and nothing is stranded.

Training uses them so: all engines are paused, the weights change, and all are resumed (vllm 41180, 58041).
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from proof.realengines.engine import Engine
from proof.realengines.metrics import RUNNING
from proof.realengines.prompts import draw_prompts
from tests.realengines.pairs import TERM_S, TOKENS, Pair, Scene, begin, consumer, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(240), pytest.mark.usefixtures("nothing_left")]

STALL_LIMIT_S = 3600.0
PATIENCE_S = 120.0
"""The bound of a pause: wide, and still far below the time of a pause that waits for the stall limit."""
KEEP = "pause?mode=keep&clear_cache=false"
CLAIMS = "kvlease:claims_total"


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    settings = {
        "extra_env": {"VLLM_SERVER_DEV_MODE": "1"},
        "extra_config": {"kv_lease_duration": TERM_S, "kv_lease_stall_limit": STALL_LIMIT_S},
    }
    yield from running_pair(producer(model, **settings), consumer(model, **settings), logs)


async def post(engine: Engine, path: str, status: int = 200) -> httpx.Response:
    async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client:
        response = await client.post(f"{engine.url}/{path}")
    assert response.status_code == status, response.text
    return response


async def claimed(s: Scene, before: float) -> None:
    await s.wait(s.pair.p, lambda m: m.value(CLAIMS) > before, "asked for the lease by D")


def test_a_paused_consumer_lets_its_leases_go_and_a_pause_of_p_ends_with_them(pair: Pair) -> None:
    """R38: D's agent stops renewing for a paused engine, so P's pause ends without waiting for the stall limit."""

    async def scene(s: Scene) -> None:
        claims = s.pair.p.metrics().value(CLAIMS)
        await post(pair.d, KEEP)
        reference = await s.router.prefill(draw_prompts(1, seed=51, shortest=500)[0])
        decode = begin(s.router.decode(reference, TOKENS))
        await claimed(s, claims)
        await post(pair.p, KEEP)
        await post(pair.p, "resume")
        await post(pair.d, "resume")
        await s.check([reference], [await decode])

    with pair.counting(ends={"expired": 1}):
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


def test_a_pause_of_p_waits_for_whoever_reads(pair: Pair) -> None:
    """R38: a paused P still clears words and frees blocks: D reads what is out, and with that the pause is complete."""

    async def scene(s: Scene) -> None:
        reference = await s.router.prefill(draw_prompts(1, seed=53, shortest=500)[0])
        pause = begin(post(pair.p, KEEP))
        answer = await s.router.decode(reference, TOKENS)
        await pause
        await post(pair.p, "resume")
        await s.check([reference], [answer])

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
def test_a_cache_that_is_reset_under_a_lease_gives_no_block_away(pair: Pair, running_too: str) -> None:
    """S1: answers are right, from the lease's own blocks, though P resets while it is out, and D while it decodes."""
    reset = f"reset_prefix_cache?reset_running_requests={running_too}"

    async def scene(s: Scene) -> None:
        prompts = draw_prompts(3, seed=55, shortest=1000, longest=1200)
        references = await s.prefill(prompts[:2])
        # The requests' blocks are not free, so vLLM says that it could not reset, in its own way for each engine.
        if running_too == "true":
            await post(pair.p, reset, status=500)
        else:
            assert (await post(pair.p, reset)).json() == {"success": False}
        await s.right(prompts[2])
        first = await s.router.decode(references[0], TOKENS)
        second = begin(s.router.decode(references[1], 200))
        await s.wait(pair.d, lambda m: m.value(RUNNING) >= 1, "decoding")
        await post(pair.d, reset)
        answer = await second
        assert answer.status == 200, answer.body
        assert answer.token_ids == await s.right(prompts[1], 200)
        await s.check(references[:1], [first])

    with pair.counting(ends={"released": 2}, checks={"intact": 2}):
        pair.play(scene)
