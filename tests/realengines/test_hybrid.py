"""vllm 52234: a hybrid model, with KV cache groups of sliding-window and of full attention, never answers wrongly."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.realengines.engine import Engine
from tests.realengines.pairs import Pair, Scene, consumer, producer, read_fresh, read_late, running

pytestmark = [pytest.mark.engine, pytest.mark.essential, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pair(hybrid_model: Path, logs: Path) -> Iterator[Pair]:
    pair = Pair(
        Engine(producer(hybrid_model, name="P-hybrid", num_blocks=400), logs),
        Engine(consumer(hybrid_model, name="D-hybrid", num_blocks=1100), logs),
    )
    with running(pair.p, pair.d):
        yield pair


def test_fresh_reads_are_right(pair: Pair) -> None:
    async def scene(s: Scene) -> None:
        await read_fresh(s, seed=31)

    with pair.counting(ends={"released": 3}, checks={"intact": 3}):
        pair.play(scene)


def test_late_read_is_never_wrong(pair: Pair) -> None:
    """S1: a late read is never wrong, where stock vLLM 0.32 answers wrongly."""

    async def scene(s: Scene) -> None:
        reference, answer = await read_late(s, seed=32)
        await s.check([reference], [answer])

    intact = pair.fence_checks().get("intact", 0)
    with pair.counting(ends={"expired": 1}):
        pair.play(scene)
    assert pair.fence_checks().get("intact", 0) == intact
