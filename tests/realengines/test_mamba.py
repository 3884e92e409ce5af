"""Mamba layers beside attention: they keep one state of a prompt, and P computes all but its last token."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvlease.up.model import build_model
from tests.realengines.pairs import Pair, consumer, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(300)]

SETTINGS: dict[str, Any] = {
    # vLLM 0.32's kernels for the CPU know no checkpoints of a state, and its engine ends at the first prompt with them.
    "prefix_caching": False,
}


@pytest.fixture(scope="module")
def pair(logs: Path) -> Iterator[Pair]:
    model = build_model("mamba")
    yield from running_pair(
        # P has as few blocks as one request may need: else it would never need those of a lease that has lapsed.
        producer(model, name="P-mamba", max_model_len=3200, num_blocks=101, **SETTINGS),
        consumer(model, name="D-mamba", **SETTINGS),
        logs,
    )


def test_fresh_reads_are_right(pair: Pair) -> None:
    """R35: D goes on from the last token, which P did not compute; the lease is bound to the prompt as it came."""
    pair.read_fresh(seed=231)


def test_late_read_is_never_wrong(pair: Pair) -> None:
    """S1: a late read is never wrong, though a layer's state is one block, which the next prompt takes."""
    pair.read_late(seed=232)
