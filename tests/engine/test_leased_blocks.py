"""The blocks of leases in a pool: held, lapsed, held again and forgotten, and what is counted of them."""

import time

import pytest

from kvlease.engine.leased_blocks import LeasedBlocks, LeaseSize
from kvlease.testing.pool import CountedPool


class Pool(CountedPool):
    """A pool and a request that computes: it gives back what it has used once the lease holds it."""

    def __init__(self, blocks: int = 10) -> None:
        super().__init__(blocks)
        self.leased = LeasedBlocks(self)

    def lease(self, token: int, number: int, *, shared: list[int] | None = None) -> list[int]:
        """A prefill with `number` blocks of its own and some that another one has, and then its lease's hold."""
        own = self.take(number)
        blocks = [*(shared or []), *own]
        self.leased.hold(token, blocks)
        self.give_back(own)
        return blocks


def counts(leased: LeasedBlocks) -> tuple[int, int, int, int]:
    return leased.held_leases, leased.held_blocks, leased.lapsed_leases, leased.lapsed_blocks


def test_a_lease_holds_its_blocks_after_its_request_has_ended() -> None:
    pool = Pool()
    blocks = pool.lease(1, 3)
    assert pool.free == 7
    assert counts(pool.leased) == (1, 3, 0, 0)
    assert (1 in pool.leased, pool.leased.holds(1), pool.leased.has_lapsed(1)) == (True, True, False)
    assert [pool.leased.of(block) for block in blocks] == [(1,)] * 3
    assert pool.leased.count(1) == 3


def test_a_lapsed_lease_has_its_blocks_and_costs_none() -> None:
    pool = Pool()
    blocks = pool.lease(1, 3)
    pool.leased.lapse(1, last=True)
    assert pool.free == 10
    assert counts(pool.leased) == (0, 0, 1, 3)
    assert (1 in pool.leased, pool.leased.holds(1), pool.leased.has_lapsed(1)) == (True, False, True)
    assert [pool.leased.of(block) for block in blocks] == [(1,)] * 3
    assert (pool.leased.held, pool.leased.lapsed, pool.leased.least_wanted) == ([], [1], 1)


def test_a_lease_that_lives_again_takes_its_blocks_out_of_the_pool() -> None:
    pool = Pool()
    blocks = pool.lease(1, 3)
    pool.leased.lapse(1, last=False)
    pool.leased.revive(1)
    assert pool.free == 7
    assert counts(pool.leased) == (1, 3, 0, 0)
    assert not set(pool.take(7)) & set(blocks)


@pytest.mark.parametrize("lapsed", [False, True])
def test_a_lease_that_has_ended_leaves_nothing_behind(lapsed: bool) -> None:
    pool = Pool()
    blocks = pool.lease(1, 3)
    if lapsed:
        pool.leased.lapse(1, last=True)
    pool.leased.forget(1)
    assert pool.free == 10
    assert counts(pool.leased) == (0, 0, 0, 0)
    assert 1 not in pool.leased
    assert [pool.leased.of(block) for block in blocks] == [()] * 3
    assert pool.leased.least_wanted is None
    assert not pool.references


def test_a_block_that_leases_share_is_free_when_none_holds_it() -> None:
    pool = Pool()
    prefix = pool.lease(1, 2)
    pool.lease(2, 1, shared=prefix)
    assert counts(pool.leased) == (2, 5, 0, 0)
    assert pool.leased.distinct_held == 3
    pool.leased.lapse(1, last=True)
    assert (pool.free, pool.leased.distinct_held) == (7, 3)
    assert pool.leased.of(prefix[0]) == (1, 2)
    pool.leased.lapse(2, last=True)
    assert (pool.free, pool.leased.distinct_held) == (10, 0)
    pool.leased.forget(1)
    assert pool.leased.of(prefix[0]) == (2,)
    assert counts(pool.leased) == (0, 0, 1, 3)
    pool.leased.forget(2)
    assert pool.leased.of(prefix[0]) == ()


def test_leases_of_a_block_come_and_go_in_any_order() -> None:
    pool = Pool()
    (block,) = pool.lease(1, 1)
    for token in (2, 3, 4):
        pool.lease(token, 0, shared=[block])
    assert pool.leased.of(block) == (1, 2, 3, 4)
    for token, left in ((3, (1, 2, 4)), (1, (2, 4)), (2, (4,))):
        pool.leased.forget(token)
        assert pool.leased.of(block) == left
    pool.lease(5, 0, shared=[block])
    assert pool.leased.of(block) == (4, 5)


def test_the_lease_that_lapsed_first_is_the_oldest_and_living_again_makes_it_young() -> None:
    pool = Pool()
    for token in (1, 2, 3):
        pool.lease(token, 1)
    for token in (2, 1, 3):
        pool.leased.lapse(token, last=True)
    assert pool.leased.lapsed == [2, 1, 3]
    pool.leased.revive(2)
    assert pool.leased.least_wanted == 1
    pool.leased.lapse(2, last=True)
    assert pool.leased.lapsed == [1, 3, 2]


def test_what_was_read_gives_up_its_slot_first_but_no_block() -> None:
    pool = Pool(6)
    expired, read = pool.lease(1, 2), pool.lease(2, 2)
    pool.leased.lapse(1, last=True)
    pool.leased.lapse(2, last=False)
    assert pool.leased.least_wanted == 2
    assert set(pool.queue[2:4]) == set(expired)
    assert set(pool.queue[4:]) == set(read)


def test_a_prompts_end_is_reused_before_its_beginning() -> None:
    """Prompts have their beginning in common, so what several may want lives longest."""
    pool = Pool(4)
    blocks = pool.lease(1, 4)
    pool.leased.lapse(1, last=True)
    assert list(pool.queue) == blocks[::-1]


def test_a_common_prefix_costs_the_same_at_any_number_of_leases() -> None:
    """The blocks of a system prompt belong to every lease that is out or has lapsed, which are thousands."""

    def seconds(leases: int) -> float:
        pool = Pool(leases + 100)
        prefix = pool.lease(1, 100)
        for token in range(2, leases):
            pool.lease(token, 1, shared=prefix)
        begun = time.perf_counter()
        for token in range(2, 52):
            pool.leased.forget(token)
        return time.perf_counter() - begun

    few = min(seconds(60) for _ in range(3))
    assert min(seconds(3000) for _ in range(3)) < 8 * few, "it was 50 times as long"


def test_the_tokens_of_prompts_go_where_their_blocks_go() -> None:
    pool = Pool()
    for token, tokens in ((1, 100), (2, 30)):
        blocks = pool.take(2)
        pool.leased.hold(token, blocks, tokens)
        pool.give_back(blocks)

    def told() -> tuple[int, int]:
        return pool.leased.held_tokens, pool.leased.lapsed_tokens

    assert told() == (130, 0)
    assert pool.leased.size(1) == LeaseSize(tokens=100, blocks=2)
    pool.leased.lapse(1, last=True)
    assert told() == (30, 100)
    pool.leased.revive(1)
    assert told() == (130, 0)
    pool.leased.lapse(2, last=False)
    pool.leased.forget(2)
    assert told() == (100, 0)
    pool.leased.forget(1)
    assert told() == (0, 0)
    assert pool.leased.size(1) is None
