"""Free blocks come and go as in a list of named blocks, in both of vLLM's orders."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlease.fleet.engines.memory import FreeBlocks
from kvlease.fleet.settings import Reuse

CAPACITY = 12
KINDS = ("take", "give back", "lapse", "free", "revive", "move")
MOVES = st.tuples(st.sampled_from(KINDS), st.integers(1, 6), st.booleans())


class Named:
    """The same with names for all blocks, and the slowest way to do everything."""

    def __init__(self, reuse: Reuse) -> None:
        self.free = deque(range(CAPACITY))
        self.held: list[list[int]] = []
        self.lapsed: dict[str, list[int]] = {}
        self._reuse = reuse

    def take(self, number: int) -> list[str]:
        blocks = [self.free.popleft() for _ in range(number)]
        self.held.append(blocks)
        broken = [lease for lease, own in self.lapsed.items() if not set(own).isdisjoint(blocks)]
        for lease in broken:
            del self.lapsed[lease]
        return sorted(broken)

    def give_back(self, blocks: list[int], last: bool) -> None:
        if last or self._reuse == "oldest":
            self.free.extend(blocks)
        else:
            self.free.extendleft(blocks)

    def move(self, lease: str) -> None:
        self.free = deque(block for block in self.free if block not in self.lapsed[lease])
        self.free.extend(self.lapsed[lease])

    def revive(self, lease: str) -> None:
        blocks = self.lapsed.pop(lease)
        self.free = deque(block for block in self.free if block not in blocks)
        self.held.append(blocks)


@pytest.mark.parametrize("reuse", ["oldest", "newest"])
@given(moves=st.lists(MOVES, max_size=60))
def test_free_blocks_are_those_of_a_list_of_named_blocks(reuse: Reuse, moves: list[tuple[str, int, bool]]) -> None:
    pool, named = FreeBlocks[str](CAPACITY, reuse), Named(reuse)
    for number, (move, size, last) in enumerate(moves):
        if move == "take" and size <= len(named.free):
            assert sorted(pool.take(size)) == named.take(size)
        elif move == "revive" and named.lapsed:
            lease = sorted(named.lapsed)[size % len(named.lapsed)]
            named.revive(lease)
            pool.take_again(lease)
        elif move == "move" and named.lapsed:
            lease = sorted(named.lapsed)[size % len(named.lapsed)]
            named.move(lease)
            pool.move_to_end(lease)
        elif move in ("give back", "lapse", "free") and named.held:
            blocks = named.held.pop(size % len(named.held))
            named.give_back(blocks, last)
            if move == "lapse":
                named.lapsed[f"lease {number}"] = blocks
            pool.give_back(len(blocks), f"lease {number}" if move == "lapse" else None, last)
        assert pool.free == len(named.free)
    # What is left comes in the same order.
    while named.free:
        assert pool.take(1) == named.take(1)


def test_blocks_that_are_not_there_cannot_be_taken() -> None:
    pool = FreeBlocks[str](CAPACITY, "oldest")
    pool.take(10)
    with pytest.raises(AssertionError, match="3 blocks of 2"):
        pool.take(3)
    pool.give_back(4, "lease", last=True)
    assert pool.take(3) == ["lease"]
    with pytest.raises(KeyError):
        pool.take_again("lease")
