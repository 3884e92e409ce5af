"""Leases in vLLM's own block pool: blocks are reused in the order that tests and simulators count on (S2)."""

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pytest

from kvlease.engine.leased_blocks import LeasedBlocks
from kvlease.testing.pool import CountedPool
from kvlease.vllm.pool import VllmPool

pytestmark = [pytest.mark.engine, pytest.mark.essential]

BLOCKS = 24


class Pool(Protocol):
    """A pool of blocks 1 to BLOCKS, and what requests do with it."""

    leased: LeasedBlocks
    ended: list[int]
    """The leases that have ended, since a block of theirs was given to somebody else."""

    @property
    def queue(self) -> Sequence[int]: ...

    def take(self, number: int) -> list[int]: ...

    def free(self, blocks: Sequence[int]) -> None: ...

    def touch(self, blocks: Sequence[int]) -> None: ...

    def cache(self, blocks: Sequence[int]) -> None: ...


class Counted:
    """The pool for tests."""

    def __init__(self) -> None:
        self._pool = CountedPool(1 + BLOCKS)
        self._pool.take(1)  # vLLM's block 0 is never given to anybody.
        self.leased, self.ended = LeasedBlocks(self._pool), list[int]()
        self._pool.watch(ending(self))
        self.take, self.free = self._pool.take, self._pool.give_back
        self.touch, self.cache = self._pool.hold, self._pool.cache

    @property
    def queue(self) -> Sequence[int]:
        return self._pool.queue


class Vllms:
    """vLLM's pool, and its requests."""

    def __init__(self) -> None:
        from vllm.v1.core.block_pool import BlockPool

        self._pool: Any = BlockPool(num_gpu_blocks=1 + BLOCKS, enable_caching=True, hash_block_size=16)
        pool = VllmPool()
        pool.bind(self._pool, lambda _: None)
        self.leased, self.ended = LeasedBlocks(pool), list[int]()
        pool.watch(ending(self))
        self._hashes = 0

    @property
    def queue(self) -> Sequence[int]:
        return tuple(block.block_id for block in self._pool.free_block_queue.get_all_free_blocks())

    def take(self, number: int) -> list[int]:
        return [block.block_id for block in self._pool.get_new_blocks(number)]

    def free(self, blocks: Sequence[int]) -> None:
        self._pool.free_blocks(reversed([self._pool.blocks[block] for block in blocks]))

    def touch(self, blocks: Sequence[int]) -> None:
        self._pool.touch([self._pool.blocks[block] for block in blocks])

    def cache(self, blocks: Sequence[int]) -> None:
        for block in (self._pool.blocks[block] for block in blocks):
            if block.block_hash is None:
                self._hashes += 1
                key = self._hashes.to_bytes(8, "big")
                block.set_block_hash(key, num_tokens=16)
                self._pool.cached_block_hash_to_block.insert(key, block)


def ending(pool: Pool) -> Callable[[int], None]:
    def end(block: int) -> None:
        for token in pool.leased.of(block):
            pool.leased.forget(token)
            pool.ended.append(token)

    return end


def blocks_of(pool: Pool, token: int) -> list[int]:
    return [block for block in range(1, 1 + BLOCKS) if token in pool.leased.of(block)]


def play(pool: Pool, seed: int) -> list[object]:
    """Plays requests and their leases, as chance has them, and returns all that can be seen of the pool meanwhile."""
    chance, seen = random.Random(seed), list[object]()
    for token in range(1, 150):
        held, lapsed = sorted(pool.leased.held), sorted(pool.leased.lapsed)
        match chance.choice(("prefill", "prefill", "lapse", "revive", "hit", "end")):
            case "prefill" if len(pool.queue) >= 4:
                prefix = blocks_of(pool, chance.choice(held)) if held and chance.randrange(2) else []
                own = pool.take(chance.randint(1, 4))
                pool.cache(own[: chance.randint(0, len(own))])
                if chance.randrange(3):
                    pool.leased.hold(token, [*prefix, *own])
                pool.free(own)
            case "lapse" if held:
                pool.leased.lapse(chance.choice(held), last=bool(chance.randrange(2)))
            case "revive" if lapsed:
                pool.leased.revive(chance.choice(lapsed))
            case "hit" if lapsed:
                # Another request has the same beginning, and uses these blocks for a while.
                hit = blocks_of(pool, chance.choice(lapsed))
                pool.touch(hit)
                pool.free(hit)
            case "end" if len(held) > 3:
                pool.leased.forget(chance.choice(held))
        seen.append((tuple(pool.queue), tuple(pool.ended), sorted(pool.leased.held), sorted(pool.leased.lapsed)))
    return seen


@pytest.mark.parametrize("seed", range(40))
def test_the_pool_for_tests_reuses_blocks_as_vllms_does(seed: int) -> None:
    assert play(Counted(), seed) == play(Vllms(), seed)


def test_the_plays_have_what_they_are_for() -> None:
    """Leases end by a block's reuse, lapse, and live again: otherwise the plays would compare nothing."""
    plays = [Counted() for _ in range(40)]
    for seed, pool in enumerate(plays):
        play(pool, seed)
    assert sum(len(pool.ended) for pool in plays) > 200
    assert sum(pool.leased.lapsed_leases for pool in plays) > 20


def test_s2_vllms_pool_tells_before_a_block_that_leases_had_is_anybodys() -> None:
    pool = Vllms()
    blocks = pool.take(BLOCKS)
    pool.leased.hold(1, blocks[:2])
    pool.leased.hold(2, blocks[1:3])
    pool.free(blocks)
    for token in (1, 2):
        pool.leased.lapse(token, last=True)
    assert set(pool.queue[-3:]) == set(blocks[:3])
    pool.take(BLOCKS - 3)
    assert pool.ended == []
    pool.take(3)
    assert sorted(pool.ended) == [1, 2]
