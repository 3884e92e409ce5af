"""R7: P's tensor parallelism is larger or smaller than D's, and every rank of P agrees that a lease is over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.realengines.engine import Engine
from tests.realengines.pairs import Pair, Scene, consumer, producer, read_fresh, read_late, running

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=[(2, 1), (1, 2)], ids=["P2-D1", "P1-D2"])
def pair(request: pytest.FixtureRequest, model: Path, logs: Path) -> Iterator[Pair]:
    p_size, d_size = request.param
    pair = Pair(
        Engine(producer(model, name=f"P-tp{p_size}", tensor_parallel_size=p_size), logs),
        Engine(consumer(model, name=f"D-tp{d_size}", tensor_parallel_size=d_size), logs),
    )
    with running(pair.p, pair.d):
        yield pair


@pytest.mark.essential
def test_fresh_reads_are_right(pair: Pair) -> None:
    """R7: every worker of D checks the fence of every worker of P that it has read from."""

    async def scene(s: Scene) -> None:
        await read_fresh(s, seed=21)

    with pair.counting(ends={"released": 3}, checks={"intact": 3 * pair.d.spec.tensor_parallel_size}):
        pair.play(scene)
    pair.wait_no_slot_used()


def test_late_read_is_never_wrong(pair: Pair) -> None:
    """S1, S2: P frees blocks only after every rank has cleared its word, so a late read is never wrong."""

    async def scene(s: Scene) -> None:
        reference, answer = await read_late(s, seed=22)
        await s.check([reference], [answer])

    intact = pair.fence_checks().get("intact", 0)
    with pair.counting(ends={"expired": 1}):
        pair.play(scene)
    assert pair.fence_checks().get("intact", 0) == intact
    pair.wait_no_slot_used()
