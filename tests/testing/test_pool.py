"""The pool for tests gives blocks away in vLLM's order, and tells before it does."""

import pytest

from kvlease.testing.pool import CountedPool


def test_blocks_are_taken_from_the_front_and_counted() -> None:
    pool = CountedPool(4)
    assert pool.take(3) == [0, 1, 2]
    assert pool.free == 1
    pool.hold([0])
    pool.give_back([0, 1])
    assert pool.free == 2, "somebody still has block 0"
    pool.give_back([0])
    assert pool.free == 3


def test_what_is_not_cached_is_reused_at_once_and_what_is_cached_last() -> None:
    pool = CountedPool(6)
    plain, cached = pool.take(2), pool.take(2)
    pool.cache(cached)
    pool.give_back(cached)
    pool.give_back(plain)
    assert pool.queue == (*plain[::-1], 4, 5, *cached[::-1])


def test_what_is_given_back_last_is_reused_after_all_that_is_free() -> None:
    pool = CountedPool(4)
    taken = pool.take(2)
    pool.give_back(taken, last=True)
    assert pool.queue == (2, 3, *taken[::-1])


def test_a_block_that_is_held_again_is_given_to_nobody() -> None:
    pool = CountedPool(3)
    taken = pool.take(2)
    pool.give_back(taken)
    pool.hold(taken)
    assert pool.queue == (2,)
    with pytest.raises(AssertionError, match="2 blocks of 1"):
        pool.take(2)


def test_whoever_watches_is_told_before_a_block_is_anybodys() -> None:
    pool = CountedPool(2)
    pool.give_back(pool.take(1), last=True)
    told: list[tuple[int, int]] = []
    pool.watch(lambda block: told.append((block, pool.references[block])))
    pool.take(2)
    assert told == [(1, 0), (0, 0)]


def test_what_is_free_cannot_be_given_back() -> None:
    pool = CountedPool(1)
    pool.give_back(pool.take(1))
    with pytest.raises(AssertionError, match="block 0 is free already"):
        pool.give_back([0])
