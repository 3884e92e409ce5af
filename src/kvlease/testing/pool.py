"""A pool of KV cache blocks with vLLM's order of reuse, for tests, simulators and models."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence


class CountedPool:
    """A `kvlease.engine.ports.BlockPool` whose blocks are numbered from 0 and counted by their references.

    Free blocks are a queue, taken from its front. As in vLLM (`BlockPool` of 0.30 to 0.33), what is given back without
    `last` is reused next where it is not cached for prompts that begin alike, and goes to the end where it is.
    """

    def __init__(self, blocks: int) -> None:
        self.references: Counter[int] = Counter()
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(blocks))
        self._cached: set[int] = set()
        self._on_reuse: Callable[[int], None] = lambda _: None

    @property
    def free(self) -> int:
        """The number of free blocks."""
        return len(self._free)

    @property
    def queue(self) -> tuple[int, ...]:
        """The free blocks in the order in which they are given away."""
        return tuple(self._free)

    def watch(self, on_reuse: Callable[[int], None]) -> None:
        self._on_reuse = on_reuse

    def take(self, number: int) -> list[int]:
        """Gives this many free blocks away, of which there must be enough."""
        assert number <= len(self._free), f"{number} blocks of {len(self._free)}"
        taken = [self._free.popitem(last=False)[0] for _ in range(number)]
        for block in taken:
            self._on_reuse(block)
            self._cached.discard(block)
            self.references[block] = 1
        return taken

    def cache(self, blocks: Iterable[int]) -> None:
        """Keeps the content of these blocks for prompts that begin alike, until they are given away."""
        self._cached.update(blocks)

    def hold(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._free.pop(block, None)
            self.references[block] += 1

    def give_back(self, blocks: Sequence[int], last: bool = False) -> None:
        at_front = []
        # From the end of a prompt to its beginning, so that what others may have in common is reused later.
        for block in reversed(blocks):
            assert self.references[block] > 0, f"block {block} is free already"
            self.references[block] -= 1
            if not self.references[block]:
                del self.references[block]
                self._free[block] = None
                if not last and block not in self._cached:
                    at_front.append(block)
        for block in reversed(at_front):
            self._free.move_to_end(block, last=False)
