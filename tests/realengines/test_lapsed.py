"""A lease that is over can be read until its blocks are reused, and holds no memory meanwhile (decision 0024)."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.realengines.prompts import draw_prompts
from proof.realengines.router import Reference
from tests.realengines.pairs import TOKENS, Pair, Scene, begin, consumer, post, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

SHORT_TERM_S = 2.0
ELSEWHERE = {"kv_connector": "ElsewhereConnector", "kv_connector_module_path": "tests.realengines.elsewhere"}
LAPSED = "kvlease:lapsed_leases"
IN_TIME = "kvlease:late_claims_total"


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    resets = {"VLLM_SERVER_DEV_MODE": "1"}
    settings = {"kv_lease_duration": SHORT_TERM_S}
    yield from running_pair(
        producer(model, name="P-lapse", extra_config=settings, extra_env=resets),
        consumer(model, name="D-lapse", extra_env=resets),
        logs,
    )


async def lapsed(s: Scene, seed: int, count: int = 3) -> list[Reference]:
    """Prefills prompts and waits until their leases have expired; P's memory is free then, all of it."""
    before = s.pair.lease_ends()
    references = await s.prefill(draw_prompts(count, seed=seed, shortest=300, longest=900))
    await s.wait_lease_ends(before, expired=count)
    await s.wait_drained()
    return references


async def forget_on_d(s: Scene) -> None:
    """Empties D's own prefix cache, so that it has to read what it has read before."""
    async with asyncio.timeout(30):
        # It says no while D has yet to free what it answered from.
        while not (await post(s.pair.d, "reset_prefix_cache")).json()["success"]:
            await asyncio.sleep(0.05)


@pytest.mark.essential
def test_late_reads_are_intact_while_nobody_needs_the_memory(pair: Pair) -> None:
    """S1, S2: the term is over, the blocks are free and not reused: what is read is right, and computed once."""

    async def scene(s: Scene) -> None:
        references = await lapsed(s, seed=61)
        await s.wait(pair.p, lambda m: m.value(LAPSED) >= 3, "known to have lapsed leases")
        await s.check(references, [await s.router.decode(reference, TOKENS) for reference in references])

    # A read that ends before its claim is said revives nothing: the lease is over, and stays so.
    with pair.counting(checks={"intact": 3}):
        pair.play(scene)


def test_a_reference_can_be_used_again_after_it_was_read(pair: Pair) -> None:
    """R23: a router may send a reference once more whatever became of it, since an end takes nothing away."""

    async def scene(s: Scene) -> None:
        reference = await s.router.prefill(draw_prompts(1, seed=62, shortest=500)[0])
        for _ in range(3):
            await s.check([reference], [await s.router.decode(reference, TOKENS)])
            await s.wait_drained()
            await forget_on_d(s)

    with pair.counting(checks={"intact": 3}):
        pair.play(scene)


def test_a_late_claim_revives_its_lease(pair: Pair) -> None:
    """R20, S2: a request that waits in D's queue claims a lapsed lease, which then outlives its term and the memory's
    use by others."""

    async def scene(s: Scene) -> None:
        references = await lapsed(s, seed=60)
        async with s.busy(pair.d):
            decodes = [begin(s.router.decode(reference, TOKENS)) for reference in references]
            await s.wait(pair.p, lambda m: m.value(IN_TIME, outcome="in_time") >= before + 3, "asked for the leases")
            await s.reuse_blocks()
        await s.check(references, [await decode for decode in decodes])

    before = pair.p.metrics().value(IN_TIME, outcome="in_time")
    with pair.counting(ends={"expired": 3, "released": 3}, checks={"intact": 3}):
        pair.play(scene)


def test_a_reference_can_be_used_again_after_its_client_left(pair: Pair) -> None:
    """R23: D lets go of the lease of a request that is aborted in its queue, and the next one reads it all the same."""

    async def scene(s: Scene) -> None:
        async with s.busy(pair.d):
            reference = await s.router.prefill(draw_prompts(1, seed=63, shortest=500)[0])
            waiting = begin(s.router.decode(reference, TOKENS))
            await s.wait_waiting(pair.d, 1)
            waiting.cancel()
            await s.wait_drained()
        await s.check([reference], [await s.router.decode(reference, TOKENS)])

    with pair.counting(checks={"intact": 1}):
        pair.play(scene)


@pytest.mark.essential
def test_a_late_read_of_reused_blocks_is_refused(pair: Pair) -> None:
    """S1, S2: when others have been given its blocks, the lease is no more, and D computes the prompt itself."""

    async def scene(s: Scene) -> None:
        references = await lapsed(s, seed=64)
        await s.reuse_blocks()
        await s.wait(pair.p, lambda m: m.value(LAPSED) == 0, "without a lapsed lease")
        await s.check(references, [await s.router.decode(reference, TOKENS) for reference in references])

    intact = pair.fence_checks().get("intact", 0)
    pair.play(scene)
    assert pair.fence_checks().get("intact", 0) == intact


def test_prompts_that_begin_alike_share_blocks_and_are_all_told_of_their_reuse(pair: Pair) -> None:
    """S2: a block that prefix caching has put into several leases vouches for none of them once it is given away."""

    async def scene(s: Scene) -> None:
        common = draw_prompts(1, seed=65, shortest=900, longest=900)[0]
        before = pair.lease_ends()
        references = await s.prefill([common + end for end in ("x", "yy", "zzz")])
        await s.wait_lease_ends(before, expired=3)
        await s.check(references, [await s.router.decode(reference, TOKENS) for reference in references])
        await forget_on_d(s)
        await s.reuse_blocks()
        await s.wait(pair.p, lambda m: m.value(LAPSED) == 0, "without a lapsed lease")
        await s.check(references, [await s.router.decode(reference, TOKENS) for reference in references])

    pair.play(scene)


def test_what_a_pause_keeps_is_read_afterwards(pair: Pair) -> None:
    """R38: P pauses with a lease out, whether it is over by then or not, and D reads while P is paused."""

    async def scene(s: Scene) -> None:
        reference = await s.router.prefill(draw_prompts(1, seed=66, shortest=500)[0])
        await post(pair.p, "pause?mode=keep&clear_cache=false")
        answer = await s.router.decode(reference, TOKENS)
        await post(pair.p, "resume")
        await s.check([reference], [answer])

    with pair.counting(checks={"intact": 1}):
        pair.play(scene)


@pytest.mark.essential
def test_what_a_pause_resets_is_not_read_any_more(pair: Pair) -> None:
    """S1: a pause that clears the cache, as for new weights, ends all leases, those that are over as well."""

    async def scene(s: Scene) -> None:
        references = await s.prefill(draw_prompts(2, seed=67, shortest=500, longest=900))
        await post(pair.p, "pause?mode=keep")
        await post(pair.p, "resume")
        await s.wait(pair.p, lambda m: m.value(LAPSED) == 0, "without a lapsed lease")
        await s.check(references, [await s.router.decode(reference, TOKENS) for reference in references])

    intact = pair.fence_checks().get("intact", 0)
    pair.play(scene)
    assert pair.fence_checks().get("intact", 0) == intact


@pytest.fixture
def elsewhere(model: Path, logs: Path) -> Iterator[Pair]:
    settings = {"kv_lease_duration": SHORT_TERM_S}
    yield from running_pair(
        producer(model, name="P-elsewhere", extra_config=settings, transfer=ELSEWHERE),
        consumer(model, name="D-here"),
        logs,
    )


def test_workers_on_another_host_clear_by_order(elsewhere: Pair) -> None:
    """S2: where the scheduler cannot write the words, leases end by a round through the workers, and late is late."""
    pair = elsewhere

    async def scene(s: Scene) -> None:
        references = await lapsed(s, seed=68)
        await s.wait(pair.p, lambda m: m.value(LAPSED) == 0, "without a lapsed lease")
        await s.check(references, [await s.router.decode(reference, TOKENS) for reference in references])

    pair.read_fresh(seed=69)
    intact = pair.fence_checks()["intact"]
    with pair.counting(ends={"expired": 3}):
        pair.play(scene)
    assert pair.fence_checks()["intact"] == intact
    pair.wait_no_lease_out()
