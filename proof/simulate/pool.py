"""The block pool of a simulated producer: vLLM's order of reuse, its prefix cache, and its null block."""

from collections.abc import Callable, Iterable, Sequence
from random import Random

from kvlease.testing.pool import CountedPool

NULL = 0
"""The block that stands for what a model does not keep; nobody owns it, and it is never given away."""


class SimPool(CountedPool):
    """A pool of `blocks` blocks that says which block it gives away, at the moment at which it does so."""

    def __init__(
        self, blocks: int, gives: Callable[[int], None], given: Callable[[int], None], order: Random | None
    ) -> None:
        """`gives` is called with each block that is about to be given away, before `on_reuse`; `given` after that.
        `order`: the chance by which blocks are reused in any order, as other engines' pools may; None for vLLM's."""
        super().__init__(blocks + 1)
        self._gives = gives
        self._given = given
        self._order = order
        self._block_of: dict[int, int] = {}
        """The block that has each content, by the content's label, for prompts that begin alike."""
        self._label_of: dict[int, int] = {}
        super().take(1)

    def take(self, number: int) -> list[int]:
        if self._order is not None:
            for block in self._order.sample(self.queue, number):
                self._free.move_to_end(block, last=False)
        for block in self.queue[:number]:
            self._gives(block)
        taken = super().take(number)
        for block in taken:
            self._uncache(block)
            self._given(block)
        return taken

    def remember(self, blocks: Iterable[int], labels: Iterable[int]) -> None:
        """Caches the blocks under what they contain, or will when the step that was scheduled has computed it."""
        for block, label in zip(blocks, labels, strict=True):
            if self._block_of.setdefault(label, block) == block:
                self._label_of[block] = label
                self.cache((block,))

    def find(self, labels: Sequence[int]) -> list[int]:
        """Returns the blocks of the longest beginning of these contents that is cached."""
        found = []
        for label in labels:
            if label not in self._block_of:
                break
            found.append(self._block_of[label])
        return found

    def forget_all(self) -> None:
        """Resets the prefix cache: nothing that was computed is used again."""
        for block in list(self._label_of):
            self._uncache(block)
        self._cached.clear()

    def _uncache(self, block: int) -> None:
        label = self._label_of.pop(block, None)
        if label is not None:
            del self._block_of[label]
