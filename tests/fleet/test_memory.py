"""The pool tells the reuse of freed blocks as a free list with named blocks does, in both of vLLM's orders."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlease.fleet.engines.memory import open_pool
from kvlease.fleet.records import Mark
from kvlease.fleet.settings import Reuse

CAPACITY = 12


@pytest.mark.parametrize("reuse", ["oldest", "newest"])
@given(moves=st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=60))
def test_reuse_is_told_as_by_a_list_of_free_blocks(reuse: Reuse, moves: list[tuple[bool, int]]) -> None:
    pool, free = open_pool(CAPACITY, reuse), deque(range(CAPACITY))
    held: list[list[int]] = []
    watched: list[tuple[Mark, list[int]]] = []
    taken_since: list[set[int]] = []
    for take, number in moves:
        if take and number <= len(free):
            pool.take(number)
            blocks = [free.popleft() for _ in range(number)]
            held.append(blocks)
            for seen in taken_since:
                seen.update(blocks)
        elif not take and held:
            blocks = held.pop(number % len(held))
            if reuse == "oldest":
                free.extend(blocks)
            else:
                free.extendleft(blocks)
            mark = pool.give_back(len(blocks), watched=True)
            assert mark is not None
            watched.append((mark, blocks))
            taken_since.append(set())
        assert pool.free == len(free)
        for (mark, blocks), seen in zip(watched, taken_since, strict=True):
            assert mark.reused == (not seen.isdisjoint(blocks))
