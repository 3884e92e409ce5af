"""Data parallelism of 2 on P and on D: four engine cores, each with its lease agent; and one of them is killed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import httpx
import pytest

from kvlease.up.ports import free_port
from proof.realengines.metrics import LEASE_ENDS
from proof.realengines.prompts import draw_prompts
from proof.realengines.spec import HOST
from tests.realengines.pairs import TERM_S, TOKENS, Pair, Scene, begin, consumer, gather, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(300)]

RANKS = 2
SEATS = 4
PORT = free_port(HOST, RANKS)


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    yield from running_pair(
        producer(
            model,
            name="P-dp2",
            data_parallel_size=RANKS,
            extra_config={"kv_lease_duration": TERM_S, "kv_lease_listen": f"{HOST}:{PORT}"},
            extra_env={"VLLM_PLUGINS": "kvlease"},
        ),
        consumer(model, name="D-dp2", data_parallel_size=RANKS),
        logs,
    )


def test_fresh_reads_are_right_between_all_cores(pair: Pair) -> None:
    """R1: each core of P grants, and whichever core of D gets a reference reads from the right one."""

    async def scene(s: Scene) -> None:
        prompts = draw_prompts(8, seed=240, longest=800)
        references = await gather([s.router.prefill(prompt) for prompt in prompts])
        await s.check(references, await gather([s.router.decode(reference, TOKENS) for reference in references]))

    with pair.counting(ends={"released": 8}, checks={"intact": 8}):
        pair.play(scene)
    assert len(pair.p.metrics().by_label(LEASE_ENDS, "engine")) == RANKS


def test_one_door_answers_for_all_cores_and_each_core_for_itself(pair: Pair) -> None:
    """A drain begins on all of them, and a lease is found on whichever it is."""

    async def scene(s: Scene) -> None:
        references = await gather([s.router.prefill(prompt) for prompt in draw_prompts(4, seed=244, longest=400)])
        async with httpx.AsyncClient(base_url=f"{pair.p.url}/v1/kvlease", timeout=60, trust_env=False) as api:
            assert [each["rank"] for each in (await api.get("/health")).json()["engines"]] == [0, 1]
            leases: list[Any] = []
            cursor: Any = {}
            while cursor is not None:
                page = (await api.get("/leases", params={"limit": 1, "state": "granted", **cursor})).json()
                leases += page["leases"]
                cursor = page["next"] and {"cursor": page["next"]}
            assert page["total"] == len(leases) == 4
            assert sorted({lease["rank"] for lease in leases}) == [0, 1]
            for rank in range(RANKS):
                own = await api.get(f"http://{HOST}:{PORT + rank}/v1/kvlease/leases?state=granted")
                assert own.json()["leases"] == [
                    lease | {"age_s": ANY, "remaining_s": ANY} for lease in leases if lease["rank"] == rank
                ]
            assert (await api.post("/drain")).json() == {"draining": True, "left": 4}
            assert (await api.post(f"/leases/{leases[-1]['token']}/release")).json() == {"released": True}
            await s.check(references, await gather([s.router.decode(each, TOKENS) for each in references]))
            assert (await api.post("/drain?wait=30")).json() == {"draining": True, "left": 0}
            assert (await api.delete("/drain")).json() == {"draining": False, "left": 0}

    with pair.counting(ends={"released": 3, "revoked": 1}):
        pair.play(scene)


def test_late_read_is_never_wrong(pair: Pair) -> None:
    """S1: no read is wrong after the core that granted the lease has given its blocks to others."""
    pair.read_late(seed=241)


def test_a_killed_core_of_the_consumer_gives_the_blocks_back_at_once(pair: Pair) -> None:
    """R18: vLLM ends the other core with it. P waits for no lease of either until its term is over."""

    async def scene(s: Scene) -> None:
        claims = pair.p.metrics().value("kvlease:claims_total")
        async with s.busy(pair.d, SEATS):
            references = await s.prefill(draw_prompts(4, seed=242, longest=800))
            decodes = [begin(s.router.decode(reference, TOKENS)) for reference in references]
            await s.wait(pair.p, lambda m: m.value("kvlease:claims_total") >= claims + 4, "asked by D to hold them")
            pair.d.kill_core(1)
            await s.wait_drained()
            await asyncio.gather(*decodes, return_exceptions=True)

    before = pair.lease_ends()
    try:
        pair.play(scene)
    finally:
        pair.d.kill()
        pair.d.start()
        pair.d.wait_ready()
    pair.wait_no_lease_out()
    after = pair.lease_ends()
    assert after.get("orphaned", 0) > before.get("orphaned", 0)
    assert after.get("expired", 0) == before.get("expired", 0)


def test_a_killed_core_of_the_producer_costs_no_answer(pair: Pair) -> None:
    """R22: D computes, rightly, the requests that waited on either core of P; D lives."""

    async def scene(s: Scene) -> None:
        prompts = draw_prompts(4, seed=243, longest=800)
        for prompt in prompts:
            await s.right(prompt)
        async with s.busy(pair.d, SEATS):
            references = await s.prefill(prompts)
            decodes = [begin(s.router.decode(reference, TOKENS)) for reference in references]
            await s.wait_waiting(pair.d, 4)
            pair.p.kill_core(0)
            await asyncio.to_thread(pair.p.kill)
        await s.check(references, await gather(decodes))

    pair.play(scene)
    assert pair.d.is_alive()
