"""KV cache blocks of a producer: how many are free, and whether what was freed has been given to others since.

No block has a name here. vLLM 0.32 gives out free blocks in one of two orders (`BlockPool.free_blocks`): with prefix
caching the oldest first, except that a part-filled last block comes to the front; without, the newest first. Both can
be answered in O(1) from counts alone. (That exception is left out: it makes late reads wrong even sooner than here.)
"""

from typing import Protocol

from kvlease.fleet.settings import Reuse


class Mark:
    """Blocks that were given back while somebody may still read them."""

    __slots__ = ("at", "reused")

    def __init__(self, at: int) -> None:
        self.at = at
        self.reused = False


class Pool(Protocol):
    """Blocks of one producer."""

    @property
    def free(self) -> int:
        """How many."""

    def take(self, blocks: int) -> None:
        """There must be as many."""

    def give_back(self, blocks: int, watched: bool) -> Mark | None:
        """A mark if they are to be watched."""

    def reused(self, mark: Mark) -> bool:
        """Whether any of the blocks has been given to somebody else since."""


class OldestFirst:
    """A queue: blocks come to the end, and are taken from the front."""

    __slots__ = ("_taken", "free")

    def __init__(self, capacity: int) -> None:
        self.free = capacity
        self._taken = 0

    def take(self, blocks: int) -> None:
        assert blocks <= self.free, f"{blocks} blocks of {self.free}"
        self.free -= blocks
        self._taken += blocks

    def give_back(self, blocks: int, watched: bool) -> Mark | None:
        # When so many have been taken in all, everything ahead of these has been, and they are next.
        mark = Mark(self._taken + self.free) if watched else None
        self.free += blocks
        return mark

    def reused(self, mark: Mark) -> bool:
        return self._taken > mark.at


class NewestFirst:
    """A stack: blocks come to the top, and are taken from there."""

    __slots__ = ("_marks", "free")

    def __init__(self, capacity: int) -> None:
        self.free = capacity
        self._marks: list[Mark] = []
        """Of blocks not reused, the deepest first."""

    def take(self, blocks: int) -> None:
        assert blocks <= self.free, f"{blocks} blocks of {self.free}"
        self.free -= blocks
        while self._marks and self._marks[-1].at > self.free:
            self._marks.pop().reused = True

    def give_back(self, blocks: int, watched: bool) -> Mark | None:
        self.free += blocks
        if not watched:
            return None
        mark = Mark(self.free)
        self._marks.append(mark)
        return mark

    def reused(self, mark: Mark) -> bool:
        return mark.reused


def open_pool(capacity: int, reuse: Reuse) -> Pool:
    """All of it free."""
    return OldestFirst(capacity) if reuse == "oldest" else NewestFirst(capacity)
