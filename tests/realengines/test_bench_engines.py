"""The parts of the benchmarks with real engines: the client, processor time, and engines that watch themselves."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proof.bench.engines.client import ClientTraffic, answers, play
from proof.bench.engines.pair import processor_s
from proof.bench.engines.pauses import launcher, read, sum_up
from proof.bench.engines.queue import Queue, live
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import Router, open_client
from tests.realengines.pairs import Pair, consumer, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(240)]

TRAFFIC = ClientTraffic("a few", 300, 8, clients=2, requests=4)
# As many requests wait as three seats have to answer; the whole takes some seconds.
QUEUE = replace(Queue(), waiting=6, answer_tokens=96, others=1, producer_blocks=700)
LIVES_S = 6.0


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("probes")


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path, probes: Path) -> Iterator[Pair]:
    settings = {"kv_lease_duration": 3.0}
    p = producer(model, name="P-bench", num_blocks=700, extra_config=settings, launcher=launcher(probes, "P"))
    d = consumer(
        model,
        name="D-bench",
        num_blocks=QUEUE.decoder_blocks,
        max_model_len=QUEUE.max_model_len,
        max_num_seqs=QUEUE.seats,
        extra_config=settings,
        launcher=launcher(probes, "D"),
    )
    yield from running_pair(p, d, logs)


def test_a_streamed_answer_is_the_right_one_and_costs_processor_time(pair: Pair) -> None:
    prompts = draw_prompts(TRAFFIC.requests, seed=61, shortest=300, longest=300)
    before_s = processor_s(pair.p) + processor_s(pair.d)
    block = asyncio.run(play(pair.p.url, pair.d.url, prompts, TRAFFIC))
    took_s = processor_s(pair.p) + processor_s(pair.d) - before_s

    async def alone() -> dict[str, tuple[int, ...]]:
        async with open_client() as client:
            router = Router(client, pair.p.url, pair.d.url)
            return {p: (await router.compute_alone(pair.p.url, p, TRAFFIC.answer_tokens)).token_ids for p in prompts}

    assert answers(block, TRAFFIC.answer_tokens) == asyncio.run(alone())
    assert all(0 < seen.first_token_s <= seen.last - seen.began <= block.wall_s for seen in block.seen)
    # Two cores give at most two seconds of processor time a second.
    assert 0 < took_s <= 2 * block.wall_s + 0.1
    pair.wait_drained()


def test_leases_wait_in_the_queue_and_the_engines_write_down_their_pauses(pair: Pair, probes: Path) -> None:
    life = asyncio.run(live("kvlease", pair.p, pair.d, QUEUE, LIVES_S))
    assert (life.false_expiries, life.first_expiry_s, life.failed) == (0, None, 0)
    assert life.leases > QUEUE.seats
    assert life.renewals > 0
    assert life.waited_s > 0
    pair.wait_drained()
    for engine in ("P", "D"):
        for what in ("agent", "steps"):
            activity = sum_up(read(probes, engine, what, life.began, life.began + life.lived_s))
            assert activity is not None
            assert 0 <= activity.waited_s <= activity.longest_s < LIVES_S
            # The agent looks a hundred times a second at least, if it gets the processor.
            assert activity.per_s > 1
