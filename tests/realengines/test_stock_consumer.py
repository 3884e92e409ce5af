"""R9: a stock decode engine reads from kvlease. It has stock's guarantees, no better and no worse.

This and test_stock_producer.py are two modules, so that there is one pair of engines at a time on the two cores.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.realengines.pairs import (
    UNFENCED_READS,
    Pair,
    Scene,
    consumer,
    producer,
    read_fresh,
    read_late,
    running_pair,
    wait_in_queue,
)

TOO_LATE = "Potentially invalid KV blocks"

pytestmark = [pytest.mark.engine, pytest.mark.essential, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    yield from running_pair(producer(model), consumer(model, name="D-stock", connector="stock"), logs)


def test_stock_consumer_reads_and_releases(pair: Pair) -> None:
    """R9: stock knows no fence and no lease agent: its completion notice ends the lease and frees the slot."""

    async def scene(s: Scene) -> None:
        await read_fresh(s, seed=41)

    before = pair.p.metrics().value(UNFENCED_READS)
    with pair.counting(ends={"released": 3}):
        pair.play(scene)
    pair.p.wait_for_metrics(lambda m: m.value(UNFENCED_READS) == before + 3, "told of its unfenced reads")
    pair.wait_no_lease_out()


def test_stock_consumer_renews_by_heartbeat(pair: Pair) -> None:
    """R9: stock's heartbeats, which name requests, reach the lessor: leases outlive their term in stock's queue."""

    async def scene(s: Scene) -> None:
        await wait_in_queue(s, seed=42, terms=1.5)

    with pair.counting(ends={"released": 2}):
        pair.play(scene)
    pair.wait_drained()
    pair.wait_no_lease_out()


def test_a_stock_consumer_that_reads_late_is_told_of_by_vllms_own_line(pair: Pair) -> None:
    """R38: a stock consumer may answer wrongly, as it does with stock, and operators learn of it by vLLM's own line."""

    async def scene(s: Scene) -> None:
        await read_late(s, seed=43)
        # vLLM's worker hears notices only in its steps, and P has nothing else to do.
        await s.right("one more request")

    with pair.counting(ends={"expired": 1}):
        pair.play(scene)
    pair.p.wait_until(lambda: TOO_LATE in pair.p.log_path.read_text(), "told of the late read")
