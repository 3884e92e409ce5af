"""KV cache blocks of a producer: how many are free, and whether what was freed has been given to others since.

No block has a name here. vLLM 0.32 gives out free blocks in one of two orders (`BlockPool.free_blocks`): with prefix
caching the oldest first, except that a part-filled last block comes to the front; without, the newest first. Both can
be answered in O(1) from counts alone. (That exception is left out: it makes late reads wrong even sooner than here.)
"""

from typing import Protocol

from kvlease.fleet.records import Mark
from kvlease.fleet.settings import Reuse


class Pool(Protocol):
    """Blocks of one producer."""

    @property
    def free(self) -> int:
        """How many."""

    def take(self, blocks: int) -> None:
        """There must be as many."""

    def give_back(self, blocks: int, watched: bool) -> Mark | None:
        """A mark if they are to be watched."""


class OldestFirst:
    """A queue: blocks come to the end, and are taken from the front."""

    __slots__ = ("free", "taken")

    def __init__(self, capacity: int) -> None:
        self.free = capacity
        self.taken = 0
        """Blocks that were ever taken."""

    def take(self, blocks: int) -> None:
        assert blocks <= self.free, f"{blocks} blocks of {self.free}"
        self.free -= blocks
        self.taken += blocks

    def give_back(self, blocks: int, watched: bool) -> Mark | None:
        mark = _QueueMark(self) if watched else None
        self.free += blocks
        return mark


class _QueueMark:
    """Of blocks that are put at the end of a queue."""

    __slots__ = ("_at", "_queue")

    def __init__(self, queue: OldestFirst) -> None:
        self._queue = queue
        # When so many have been taken in all, everything ahead of these has been, and they are next.
        self._at = queue.taken + queue.free

    @property
    def reused(self) -> bool:
        return self._queue.taken > self._at


class NewestFirst:
    """A stack: blocks come to the top, and are taken from there."""

    __slots__ = ("_marks", "free")

    def __init__(self, capacity: int) -> None:
        self.free = capacity
        self._marks: list[_StackMark] = []
        """Of blocks not reused, the deepest first."""

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
    """Of blocks that are put on top of a stack."""

    __slots__ = ("reused", "top")

    def __init__(self, top: int) -> None:
        self.top = top
        """How high the stack is with them."""
        self.reused = False


def open_pool(capacity: int, reuse: Reuse) -> Pool:
    """All of it free."""
    return OldestFirst(capacity) if reuse == "oldest" else NewestFirst(capacity)
