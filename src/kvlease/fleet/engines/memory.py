"""The KV cache blocks of a producer: the number of free ones, and whether freed ones have been given to others since.

No block is told from another here. vLLM 0.32 gives out free blocks in one of two orders (`BlockPool.free_blocks`): with
prefix caching the oldest first, except that a part-filled last block comes to the front; without, the newest first.
Counts alone answer both in O(1). (That exception is left out: it makes late reads wrong even sooner than here.)
"""

from typing import Protocol

from kvlease.fleet.records import Mark
from kvlease.fleet.settings import Reuse


class Pool(Protocol):
    """The blocks of one producer."""

    @property
    def free(self) -> int:
        """The number of free blocks."""

    def take(self, blocks: int) -> None:
        """Takes free blocks, of which there must be enough."""

    def give_back(self, blocks: int, watched: bool) -> Mark | None:
        """Gives blocks back; returns a mark if they are to be watched."""


class OldestFirst:
    """A pool as a queue: blocks come to its end, and are taken from its front."""

    __slots__ = ("free", "taken")

    def __init__(self, capacity: int) -> None:
        self.free = capacity
        self.taken = 0
        """The number of blocks taken since the start."""

    def take(self, blocks: int) -> None:
        assert blocks <= self.free, f"{blocks} blocks of {self.free}"
        self.free -= blocks
        self.taken += blocks

    def give_back(self, blocks: int, watched: bool) -> Mark | None:
        mark = _QueueMark(self) if watched else None
        self.free += blocks
        return mark


class _QueueMark:
    """The mark of blocks that are put at the end of a queue."""

    __slots__ = ("_at", "_queue")

    def __init__(self, queue: OldestFirst) -> None:
        self._queue = queue
        # When this many were taken in all, everything ahead of these blocks was, and they are next.
        self._at = queue.taken + queue.free

    @property
    def reused(self) -> bool:
        return self._queue.taken > self._at


class NewestFirst:
    """A pool as a stack: blocks come to its top, and are taken from there."""

    __slots__ = ("_marks", "free")

    def __init__(self, capacity: int) -> None:
        self.free = capacity
        self._marks: list[_StackMark] = []
        """The marks of blocks that were not reused, the deepest first."""

    def take(self, blocks: int) -> None:
        assert blocks <= self.free, f"{blocks} blocks of {self.free}"
        self.free -= blocks
        while self._marks and self._marks[-1].top > self.free:
            self._marks.pop().reused = True

    def give_back(self, blocks: int, watched: bool) -> Mark | None:
        self.free += blocks
        if not watched:
            return None
        mark = _StackMark(self.free)
        self._marks.append(mark)
        return mark


class _StackMark:
    """The mark of blocks that are put on top of a stack."""

    __slots__ = ("reused", "top")

    def __init__(self, top: int) -> None:
        self.top = top
        """The height of the stack with them."""
        self.reused = False


def open_pool(capacity: int, reuse: Reuse) -> Pool:
    """Returns a pool whose blocks are all free."""
    return OldestFirst(capacity) if reuse == "oldest" else NewestFirst(capacity)
