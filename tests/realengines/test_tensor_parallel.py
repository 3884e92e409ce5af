"""R7: P's tensor parallelism is larger or smaller than D's, and every rank of P agrees that a lease is over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.realengines.pairs import Pair, consumer, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=[(2, 1), (1, 2)], ids=["P2-D1", "P1-D2"])
def pair(request: pytest.FixtureRequest, model: Path, logs: Path) -> Iterator[Pair]:
    p_size, d_size = request.param
    yield from running_pair(
        producer(model, name=f"P-tp{p_size}", tensor_parallel_size=p_size),
        consumer(model, name=f"D-tp{d_size}", tensor_parallel_size=d_size),
        logs,
    )


@pytest.mark.essential
def test_fresh_reads_are_right(pair: Pair) -> None:
    """R7: every worker of D checks the fence of every worker of P that it has read from."""
    pair.read_fresh(seed=21)
    pair.wait_no_lease_out()


def test_late_read_is_never_wrong(pair: Pair) -> None:
    """S1, S2: P frees blocks only after every rank has cleared its word, so a late read is never wrong."""
    pair.read_late(seed=22)
    pair.wait_no_lease_out()
