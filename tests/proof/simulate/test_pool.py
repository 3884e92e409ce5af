"""The simulated pool says what it gives away as it does so, shares what begins alike, and keeps the null block."""

from collections.abc import Callable
from random import Random

import pytest

from proof.simulate.pool import NULL, SimPool


class Told:
    """The pool's calls, in their order."""

    def __init__(self, blocks: int, order: Random | None = None) -> None:
        self.calls: list[tuple[str, int]] = []
        self.pool = SimPool(blocks, self._told("gives"), self._told("given"), order)
        self.pool.watch(self._told("reused"))

    def _told(self, what: str) -> Callable[[int], None]:
        return lambda block: self.calls.append((what, block))


def test_who_watches_hears_before_who_is_told_that_a_block_is_given() -> None:
    told = Told(2)
    assert told.pool.take(2) == [1, 2]
    for block in (1, 2):
        assert [what for what, of in told.calls if of == block] == ["gives", "reused", "given"]


def test_the_null_block_is_never_given_away() -> None:
    for order in (None, Random(1)):
        pool = Told(4, order).pool
        assert pool.free == 4
        assert NULL not in pool.take(4)


def test_prompts_share_what_begins_alike_until_it_is_given_away() -> None:
    pool = Told(4).pool
    blocks = pool.take(2)
    pool.remember(blocks, (7, 8))
    assert pool.find((7, 8, 9)) == blocks
    assert pool.find((7, 9)) == blocks[:1]
    assert pool.find((8,)) == blocks[1:]
    pool.give_back(blocks)
    assert pool.find((7, 8)) == blocks
    pool.take(4)
    assert pool.find((7, 8)) == []


def test_a_reset_forgets_what_was_computed() -> None:
    pool = Told(2).pool
    pool.remember(pool.take(1), (7,))
    pool.forget_all()
    assert pool.find((7,)) == []


@pytest.mark.parametrize("seed", range(5))
def test_in_any_order_it_gives_free_blocks_alone(seed: int) -> None:
    pool = Told(6, Random(seed)).pool
    held = pool.take(3)
    assert not set(held) & set(pool.take(3))
