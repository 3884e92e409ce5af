"""Models whose cache is no plain list of blocks: Mamba beside attention, and latent attention (MLA)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pairs import Pair, Scene, consumer, producer, read_fresh, read_late, running

from kvlease.cluster.engine import Engine
from kvlease.cluster.model import ModelKind, build_model

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(300)]

# What vLLM sets by itself for its own connector's name.
ENVIRONMENT = {"VLLM_SSM_CONV_STATE_LAYOUT": "DS"}


@pytest.fixture(scope="module", params=["mamba", "mla"])
def pair(request: pytest.FixtureRequest, logs: Path) -> Iterator[Pair]:
    kind: ModelKind = request.param
    model = build_model(kind)
    pair = Pair(
        Engine(producer(model, name=f"P-{kind}", num_blocks=300, extra_env=ENVIRONMENT), logs),
        Engine(consumer(model, name=f"D-{kind}", extra_env=ENVIRONMENT), logs),
    )
    with running(pair.p, pair.d):
        yield pair


def test_fresh_reads_are_right(pair: Pair) -> None:
    """For Mamba P computes all but the last token, and D takes it from there (R35: the prompt is known uncut)."""

    async def scene(s: Scene) -> None:
        await read_fresh(s, seed=231)

    with pair.counting(ends={"released": 3}, checks={"intact": 3}):
        pair.play(scene)


def test_late_read_is_never_wrong(pair: Pair) -> None:
    """S1: the state of a Mamba layer is one block, and the one that is given away first."""

    async def scene(s: Scene) -> None:
        reference, answer = await read_late(s, seed=232)
        await s.check([reference], [answer])

    intact = pair.fence_checks().get("intact", 0)
    with pair.counting(ends={"expired": 1}):
        pair.play(scene)
    assert pair.fence_checks().get("intact", 0) == intact
