"""vllm 52234: a hybrid model, with KV cache groups of sliding-window and of full attention, never answers wrongly."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.realengines.pairs import Pair, consumer, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.essential, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pair(hybrid_model: Path, logs: Path) -> Iterator[Pair]:
    yield from running_pair(
        producer(hybrid_model, name="P-hybrid", num_blocks=400),
        consumer(hybrid_model, name="D-hybrid", num_blocks=1100),
        logs,
    )


def test_fresh_reads_are_right(pair: Pair) -> None:
    pair.read_fresh(seed=31)


def test_late_read_is_never_wrong(pair: Pair) -> None:
    """S1: a late read is never wrong, where stock vLLM 0.32 answers wrongly."""
    pair.read_late(seed=32)
