"""The KV cache blocks of a producer that are free, in the order in which they are given out.

No block is told from another here, but runs of them are: each lease whose blocks were given back has its run, until the
first of them is given to somebody else. vLLM 0.32 puts free blocks in one of two places (`BlockPool.free_blocks`): with
prefix caching at the end, except that a part-filled last block comes to the front; without, at the front. (That
exception is left out: it makes late reads wrong even sooner than here.) `BlockPool.unpin_blocks` puts them at the end.
"""

from collections import OrderedDict
from collections.abc import Hashable
from itertools import count
from typing import Generic, TypeVar

from kvlease.fleet.settings import Reuse

L = TypeVar("L", bound=Hashable)


class FreeBlocks(Generic[L]):
    """The free blocks of one producer, for leases of any kind. All of it costs O(1), counted over the whole run."""

    __slots__ = ("_numbers", "_reuse", "_runs", "free")

    def __init__(self, capacity: int, reuse: Reuse) -> None:
        self.free = capacity
        """The number of free blocks."""
        self._reuse = reuse
        self._numbers = count()
        self._runs: OrderedDict[L | int, int] = OrderedDict()
        """The runs of free blocks, the next to be given out first: the lease whose blocks they are, or a number where
        they are nobody's; and how many there are."""
        self._put(capacity, at_end=True)

    def take(self, blocks: int) -> list[L]:
        """Takes free blocks, of which there must be enough. Returns the leases that were whole until now."""
        assert blocks <= self.free, f"{blocks} blocks of {self.free}"
        self.free -= blocks
        broken: list[L] = []
        while blocks:
            owner, run = self._runs.popitem(last=False)
            if not isinstance(owner, int):
                broken.append(owner)
            if run > blocks:
                self._put(run - blocks, at_end=False)
            blocks -= min(run, blocks)
        return broken

    def give_back(self, blocks: int, lease: L | None, last: bool) -> None:
        """Gives blocks back: to be reused after all others if `last`, else where vLLM puts them.

        They are still those of `lease`; None: nobody's.
        """
        self.free += blocks
        at_end = last or self._reuse == "oldest"
        if lease is None:
            self._put(blocks, at_end)
        else:
            self._runs[lease] = blocks
            self._runs.move_to_end(lease, at_end)

    def take_again(self, lease: L) -> None:
        """Takes all blocks of a lease that is whole, wherever they are."""
        self.free -= self._runs.pop(lease)

    def move_to_end(self, lease: L) -> None:
        """Has the blocks of a lease that is whole reused after all others."""
        self._runs.move_to_end(lease)

    def _put(self, blocks: int, at_end: bool) -> None:
        """Puts blocks that are nobody's at one end, in one run with those that are there."""
        if not blocks:
            return
        neighbour = next(reversed(self._runs) if at_end else iter(self._runs), None)
        if isinstance(neighbour, int):
            self._runs[neighbour] += blocks
        else:
            number = next(self._numbers)
            self._runs[number] = blocks
            self._runs.move_to_end(number, at_end)
