"""Mamba layers beside attention: they keep one state of a prompt, and P computes all but its last token."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proof.realengines.engine import Engine
from proof.realengines.model import build_model
from tests.realengines.pairs import Pair, Scene, consumer, producer, read_fresh, read_late, running

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(300)]

SETTINGS: dict[str, Any] = {
    # vLLM 0.32's kernels for the CPU know no checkpoints of a state, and its engine ends at the first prompt with them.
    "prefix_caching": False,
}


@pytest.fixture(scope="module")
def pair(logs: Path) -> Iterator[Pair]:
    model = build_model("mamba")
    pair = Pair(
        Engine(producer(model, name="P-mamba", **SETTINGS), logs),
        Engine(consumer(model, name="D-mamba", **SETTINGS), logs),
    )
    with running(pair.p, pair.d):
        yield pair


def test_fresh_reads_are_right(pair: Pair) -> None:
    """R35: D goes on from the last token, which P did not compute; the lease is bound to the prompt as it came."""

    async def scene(s: Scene) -> None:
        await read_fresh(s, seed=231)

    with pair.counting(ends={"released": 3}, checks={"intact": 3}):
        pair.play(scene)


def test_late_read_is_never_wrong(pair: Pair) -> None:
    """S1: a late read is never wrong, though a layer's state is one block, which the next prompt takes."""

    async def scene(s: Scene) -> None:
        reference, answer = await read_late(s, seed=232)
        await s.check([reference], [answer])

    intact = pair.fence_checks().get("intact", 0)
    with pair.counting(ends={"expired": 1}):
        pair.play(scene)
    assert pair.fence_checks().get("intact", 0) == intact
