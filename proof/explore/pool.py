"""The block pool of an engine in the explored world."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from kvlease.testing.pool import CountedPool


class ExploredPool(CountedPool):
    """A pool that can be copied, and that may give its blocks away in another order than vLLM's."""

    def watch(self, on_reuse: Callable[[int], None]) -> None:
        owner, method = on_reuse.__self__, on_reuse.__func__  # type: ignore[attr-defined]
        # A method is pickled by the name that it was defined with, which a planted bug may have in another place.
        (name,) = (name for name in dir(owner) if getattr(type(owner), name, None) is method)
        super().watch(partial(_call, owner, name))

    def reverse(self) -> None:
        """Puts the free blocks into the opposite order."""
        self._free = OrderedDict.fromkeys(reversed(self._free))


def _call(owner: object, name: str, block: int) -> None:
    getattr(owner, name)(block)
