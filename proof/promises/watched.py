"""A fence table that is looked at from outside."""

from collections.abc import Callable

from kvlease.fence import FenceTable
from kvlease.fence.words import Words


class WatchedTable(FenceTable):
    """A fence table that reports every change of its words, whatever the code under test believes of them."""

    def __init__(self, words: Words, watch: Callable[[int, int], None]) -> None:
        """`watch` is called after each change with (slot, what its word holds now, 0 for a clear one)."""
        super().__init__(words)
        self._watch = watch

    def arm(self, slot: int, token: int) -> None:
        super().arm(slot, token)
        self._watch(slot, self.word(slot))

    def clear(self, slot: int) -> None:
        super().clear(slot)
        self._watch(slot, self.word(slot))
