"""R9: kvlease with a stock engine on the other side. What stock does there is not better, and nothing is worse."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pairs import Pair, Scene, consumer, producer, read_fresh, running, wait_in_queue

from kvlease.cluster.engine import Engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stock_consumer(model: Path, logs: Path) -> Iterator[Pair]:
    pair = Pair(Engine(producer(model), logs), Engine(consumer(model, name="D-stock", connector="stock"), logs))
    with running(pair.p, pair.d):
        yield pair


@pytest.fixture(scope="module")
def stock_producer(model: Path, logs: Path) -> Iterator[Pair]:
    pair = Pair(Engine(producer(model, name="P-stock", connector="stock"), logs), Engine(consumer(model), logs))
    with running(pair.p, pair.d):
        yield pair


def test_stock_consumer_reads_and_releases(stock_consumer: Pair) -> None:
    """It knows no fence and no lease agent: its completion notice ends the lease, and its slot is given back."""
    pair = stock_consumer

    async def scene(s: Scene) -> None:
        await read_fresh(s, seed=41)

    with pair.counting(ends={"released": 3}):
        pair.play(scene)
    pair.wait_no_slot_used()


def test_stock_consumer_renews_by_heartbeat(stock_consumer: Pair) -> None:
    """Its heartbeats name requests; they reach the lessor, and leases outlive their term in its queue."""
    pair = stock_consumer

    async def scene(s: Scene) -> None:
        await wait_in_queue(s, seed=42, terms=1.5)

    with pair.counting(ends={"released": 2}):
        pair.play(scene)
    pair.wait_drained()
    pair.wait_no_slot_used()


def test_stock_producer_is_read_from(stock_producer: Pair) -> None:
    """No card, no kv_lease: the stock mechanism runs, completion notices and heartbeats included."""
    pair = stock_producer

    async def scene(s: Scene) -> None:
        await read_fresh(s, seed=43)
        await wait_in_queue(s, seed=44, terms=1.5)

    pair.play(scene)
    pair.wait_drained()
    assert pair.p.metrics().value("vllm:nixl_num_kv_expired_reqs_total") == 0
    assert pair.fence_checks() == {}
