"""kvlease on both sides, one worker each, and all that can happen to a request from its prefill to its first token."""

import asyncio
import dataclasses
import time
from collections.abc import Iterator

import psutil
import pytest

from kvlease.metrics.scraped import Metrics
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import Reference
from tests.realengines.pairs import TOKENS, Pair, Scene, begin

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def pair(shared_pair: Pair) -> Pair:
    return shared_pair


@pytest.fixture(autouse=True)
def drained(pair: Pair) -> Iterator[None]:
    """Asserts that a test leaves both engines alive and P without a held block: nothing is stranded."""
    yield
    assert pair.d.is_alive()
    pair.wait_drained()
    pair.p.wait_for_metrics(lambda m: m.value("kvlease:active_leases") == 0, "without a lease")


def with_lease(reference: Reference, lease: object) -> Reference:
    return dataclasses.replace(reference, kv_transfer_params={**reference.kv_transfer_params, "kv_lease": lease})


def test_idle_workers_leave_their_cores_to_others(pair: Pair) -> None:
    """An idle worker leaves its core to others (decision 0010): one that spins starves the lease agents for seconds."""

    def spent_s() -> list[float]:
        times = [psutil.Process(pid).cpu_times() for engine in (pair.p, pair.d) for pid in engine.worker_pids()]
        return [t.user + t.system for t in times]

    began, before = time.monotonic(), spent_s()
    time.sleep(1)  # A fixed time has to pass.
    after, elapsed_s = spent_s(), time.monotonic() - began
    # A thread that spins takes all of the time.
    assert max(end - start for start, end in zip(before, after, strict=True)) < 0.5 * elapsed_s


@pytest.mark.essential
def test_fresh_reads_are_right_and_free_their_blocks(pair: Pair) -> None:
    """R1, R19: fresh reads are right, and the consumer releases the blocks: none is held until the term is over."""
    timed = ((pair.p, "kvlease:lease_age_seconds_count"), (pair.d, "kvlease:fence_read_seconds_count"))
    before = [engine.metrics().value(name) for engine, name in timed]
    began = pair.p.metrics()
    pair.read_fresh(seed=1, count=5, longest=3000)
    assert [engine.metrics().value(name) for engine, name in timed] == [count + 5 for count in before]
    # What is let go of before its claim was sent was never claimed; so it may be one less.
    # Tests of lapsed leases, which may have had this pair before, claim a second time, and wait for nothing then.
    told = pair.p.metrics()
    waits, claims = (
        told.value(name) - began.value(name) for name in ("kvlease:claim_wait_seconds_count", "kvlease:claims_total")
    )
    assert waits == claims > 0


@pytest.mark.essential
def test_late_read_is_never_wrong(pair: Pair) -> None:
    """S1, R19, R20: when the lease has expired and others have the blocks, D computes the prompt again."""

    async def scene(s: Scene) -> None:
        references = await s.prefill(draw_prompts(2, seed=2, shortest=1000))
        await s.wait_drained()
        await s.reuse_blocks()
        answers = [await s.router.decode(reference, TOKENS) for reference in references]
        await s.check(references, answers)
        tokens = sum(reference.kv_transfer_params["kv_lease"]["prompt_tokens"] for reference in references)
        await s.wait(pair.d, lambda m: wasted(m) == before + tokens, f"telling of {tokens} more wasted tokens")

    def wasted(metrics: Metrics) -> float:
        return sum(metrics.by_label("kvlease:wasted_prefill_tokens_total", "reason").values())

    before = wasted(pair.d.metrics())
    with pair.counting(ends={"expired": 2}):
        intact = pair.fence_checks().get("intact", 0)
        pair.play(scene)
    checks = pair.fence_checks()
    assert checks.get("intact", 0) == intact
    lost = pair.d.metrics().value("kvlease:lost_leases_total")
    assert checks.get("revoked", 0) + lost >= 2


@pytest.mark.essential
def test_abort_while_waiting_frees_the_producer_at_once(pair: Pair) -> None:
    """vllm 41269, 19223, 29906: D aborts requests that it never scheduled; P hears of it, and frees before the term."""

    async def scene(s: Scene) -> None:
        async with s.busy(pair.d):
            reference = await s.router.prefill(draw_prompts(1, seed=3)[0])
            waiting = begin(s.router.decode(reference, TOKENS))
            await s.wait_waiting(pair.d, 1)
            assert pair.p.held_blocks() > 0
            waiting.cancel()
            await s.wait_drained()

    with pair.counting(ends={"released": 1}, checks={}):
        pair.play(scene)


@pytest.mark.essential
def test_siblings_share_a_lease(pair: Pair) -> None:
    """R24: with n = 3 no sibling frees under another: three reads of one lease give three right answers."""

    async def scene(s: Scene) -> None:
        reference = await s.router.prefill(draw_prompts(1, seed=4)[0])
        answer = await s.router.decode(reference, TOKENS, n=3)
        assert answer.status == 200, answer.body
        assert answer.choices == (await s.right(reference.prompt),) * 3

    with pair.counting(ends={"released": 1}, checks={"intact": 3}):
        pair.play(scene)


@pytest.mark.essential
def test_prefilled_siblings_hold_one_lease(pair: Pair) -> None:
    """R24, vllm 38900: a router that passes n = 3 on to P gets one reference. The other two prefills hold nothing."""

    async def scene(s: Scene) -> None:
        reference = await s.router.prefill(draw_prompts(1, seed=5)[0], n=3)
        await s.wait(pair.p, lambda m: m.value("kvlease:active_leases") == 1, "down to one lease")
        await s.check([reference], [await s.router.decode(reference, TOKENS)])

    with pair.counting(ends={"aborted": 2, "released": 1}, checks={"intact": 1}):
        pair.play(scene)


@pytest.mark.essential
def test_waiting_requests_are_renewed_from_the_queue(pair: Pair) -> None:
    """R8, R15: requests wait for one and a half terms in the queue of a living, busy D. None is lost."""

    async def scene(s: Scene) -> None:
        async with s.waiting_on_d(draw_prompts(3, seed=6)):
            await s.wait_renewed(terms=1.5)

    with pair.counting(ends={"released": 3}, checks={"intact": 3}):
        pair.play(scene)


def test_long_step_loses_no_lease(pair: Pair) -> None:
    """R15, L2: a step of D outlasts the lease; its scheduler's process lives, and so do the leases."""

    async def scene(s: Scene) -> None:
        async with s.waiting_on_d(draw_prompts(3, seed=8)):
            pair.d.pause_worker()
            try:
                await s.wait_renewed(terms=1.5)
                await s.reuse_blocks()
            finally:
                pair.d.resume_worker()

    with pair.counting(ends={"released": 3}, checks={"intact": 3}):
        pair.play(scene)


def test_stalled_decoder_answers_right(pair: Pair) -> None:
    """S1, R18: D is stopped beyond its lease while P reuses the blocks, then goes on. It lives: nothing is orphaned."""

    def holds_for_the_silent(metrics: Metrics) -> bool:
        held = [metrics.value(f"kvlease:unheard_{what}", consumer="silent") for what in ("leases", "tokens", "bytes")]
        return held[0] == 3 and min(held) > 0

    async def scene(s: Scene) -> None:
        before = pair.lease_ends()
        async with s.waiting_on_d(draw_prompts(3, seed=9)):
            pair.d.pause()
            try:
                await s.wait(pair.p, holds_for_the_silent, "holding three leases for a silent consumer")
                await s.wait_lease_ends(before, expired=3)
                await s.reuse_blocks()
            finally:
                pair.d.resume()

    with pair.counting(ends={"expired": 3}):
        pair.play(scene)


@pytest.mark.parametrize(
    "lease", [None, "x", 7, [], {}, {"version": 2}, {"version": 1, "incarnation": "00", "token": "0" * 16, "slot": -1}]
)
def test_unreadable_reference_is_not_read(pair: Pair, lease: object) -> None:
    """R14: a reference that a router has damaged is refused and counted, and the answer is right all the same."""

    async def scene(s: Scene) -> None:
        reference = await s.router.prefill(draw_prompts(1, seed=10, longest=300)[0])
        await s.check([reference], [await s.router.decode(with_lease(reference, lease), TOKENS)])
        # Only who can name the lease can drop it. A read of it keeps the next test from waiting for its term.
        await s.check([reference], [await s.router.decode(reference, TOKENS)])

    refused = pair.d.metrics().value("kvlease:refused_total", kind="bad_reference")
    with pair.counting(ends={"released": 1}, checks={"intact": 1}):
        pair.play(scene)
    assert pair.d.metrics().value("kvlease:refused_total", kind="bad_reference") == refused + 1


@pytest.mark.essential
def test_forged_token_reads_nothing(pair: Pair) -> None:
    """S4: whoever does not hold the token is told so, and the lease of its holder lives on."""

    async def scene(s: Scene) -> None:
        reference = await s.router.prefill(draw_prompts(1, seed=11, longest=300)[0])
        forged = dict(reference.kv_transfer_params["kv_lease"]) | {"token": "00000000000000ff"}
        await s.check([reference], [await s.router.decode(with_lease(reference, forged), TOKENS)])
        await s.check([reference], [await s.router.decode(reference, TOKENS)])

    intact = pair.fence_checks().get("intact", 0)
    with pair.counting(ends={"released": 1}):
        pair.play(scene)
    assert pair.fence_checks().get("intact", 0) == intact + 1


@pytest.mark.essential
def test_restarted_producer_honours_no_old_reference(pair: Pair) -> None:
    """R22, S3: P comes back under the same engine id and ports. Its old references match nothing; new ones are read."""

    async def scene(s: Scene) -> tuple[Reference, Reference]:
        first, second = await s.prefill(draw_prompts(2, seed=12, longest=1200))
        await s.check([first], [await s.router.decode(first, TOKENS)])
        await s.right(second.prompt)
        return first, second

    _, old = pair.play(scene)
    pair.p.kill()
    pair.p.start()
    pair.p.wait_ready()

    async def after(s: Scene) -> None:
        await s.reuse_blocks()
        await s.check([old], [await s.router.decode(old, TOKENS)])
        fresh = await s.prefill(draw_prompts(3, seed=13, longest=1200))
        await s.check(fresh, [await s.router.decode(reference, TOKENS) for reference in fresh])

        async def read_again() -> bool:
            reference = await s.router.prefill(fresh[0].prompt)
            intact = pair.fence_checks().get("intact", 0)
            await s.check([reference], [await s.router.decode(reference, TOKENS)])
            return pair.fence_checks().get("intact", 0) > intact

        # D may compute some itself until it has shaken hands with the new incarnation; then it reads again.
        async with asyncio.timeout(60):
            while not await read_again():
                pass

    pair.play(after)


@pytest.mark.essential
def test_crashed_decoder_gives_the_blocks_back_at_once(pair: Pair) -> None:
    """R18, L1: D is killed with requests waiting. P takes the blocks back after the grace, not after the term."""

    async def scene(s: Scene) -> None:
        claims = pair.p.metrics().value("kvlease:claims_total")
        async with s.busy(pair.d):
            references = await s.prefill(draw_prompts(3, seed=14))
            decodes = [begin(s.router.decode(reference, TOKENS)) for reference in references]
            await s.wait(pair.p, lambda m: m.value("kvlease:claims_total") >= claims + 3, "asked by D to hold them")
            pair.d.kill()
            await s.wait_drained()
            await asyncio.gather(*decodes, return_exceptions=True)

    with pair.counting(ends={"orphaned": 3}):
        try:
            pair.play(scene)
        finally:
            pair.d.start()
            pair.d.wait_ready()
    assert pair.p.metrics().value("kvlease:crash_reclaims_total") == pair.lease_ends().get("orphaned", 0)
