"""R9: kvlease reads from a stock prefill engine. It has stock's guarantees, no better and no worse."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.realengines.metrics import STOCK_EXPIRED
from tests.realengines.pairs import Pair, Scene, consumer, producer, read_fresh, running_pair, wait_in_queue

pytestmark = [pytest.mark.engine, pytest.mark.essential, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    yield from running_pair(producer(model, name="P-stock", connector="stock"), consumer(model), logs)


def test_stock_producer_is_read_from(pair: Pair) -> None:
    """R9: without a card and a kv_lease the stock mechanism runs, completion notices and heartbeats included."""

    async def scene(s: Scene) -> None:
        await read_fresh(s, seed=43)
        await wait_in_queue(s, seed=44, terms=1.5)

    pair.play(scene)
    pair.wait_drained()
    assert pair.p.metrics().value(STOCK_EXPIRED) == 0
    assert pair.fence_checks() == {}
