"""Fence words in memory that two processes of one host share: a worker registers them, its scheduler writes them.

So a word is cleared at the very moment at which its blocks are given away, without a step of the worker. The memory has
no name in any file system: the other process opens it through `/proc`, and nothing is left behind when both have ended.
"""

import mmap
import os
import secrets
from contextlib import suppress
from typing import NamedTuple

from kvlease.fence.words import WORD_BYTES, WordsInMemory, word_view

_NAME = "kvlease-fence"


class SharedPlace(NamedTuple):
    """The place of shared words: the process that made them, its file descriptor, and the u64 that proves it.

    Process numbers and descriptors mean something else on another host, or in another container.
    """

    pid: int
    descriptor: int
    nonce: int


class NotShared(Exception):
    """The words are not in memory that this process can map: most often they are on another host."""


class SharedMemory:
    """Memory for `count` words, all 0 at first, that other processes of this host can map.

    Attributes: `map`: the memory. `place`: where another process finds it, until `close`; None where the system refuses
    memory that can be shared so (`vm.memfd_noexec=2`, a sandbox), and workers write their words by order.
    """

    def __init__(self, count: int) -> None:
        self.place: SharedPlace | None = None
        self._descriptor: int | None = None
        try:
            self._descriptor = os.memfd_create(_NAME)
        except OSError:
            self.map = mmap.mmap(-1, _bytes(count), flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
            return
        os.ftruncate(self._descriptor, _bytes(count))
        self.map = mmap.mmap(self._descriptor, _bytes(count), flags=mmap.MAP_SHARED)
        self.place = SharedPlace(os.getpid(), self._descriptor, secrets.randbits(64))
        word_view(self.map)[count] = self.place.nonce

    def close(self) -> None:
        """Lets nobody map the memory any more; who has mapped it keeps it. A no-op the second time."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class MappedWords(WordsInMemory):
    """The `count` words at `place`, which another process has made and registered (`Words`)."""

    def __init__(self, place: SharedPlace | None, count: int) -> None:
        """Raises `NotShared` where this process cannot map them, or there is no place."""
        self.base = 0
        super().__init__(_map(place, count), count)

    def address(self, index: int) -> int:
        raise NotImplementedError(f"word {index} has its address in the process that registered it")

    def deregister(self) -> None:
        """Nothing is done: the process that registered them withdraws them."""


def _map(place: SharedPlace | None, count: int) -> mmap.mmap:
    if place is None:
        raise NotShared("their process could not make memory that others can map")
    path = f"/proc/{place.pid}/fd/{place.descriptor}"
    try:
        # Whatever else is behind a number that means something else here must not even be opened.
        if not os.readlink(path).startswith(f"/memfd:{_NAME}"):
            raise NotShared(f"{path} is something else here")
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise NotShared(f"{path} cannot be opened: {e}") from e
    try:
        found = mmap.mmap(descriptor, _bytes(count), flags=mmap.MAP_SHARED)
    except (OSError, ValueError) as e:
        raise NotShared(f"{path} cannot be mapped: {e}") from e
    finally:
        with suppress(OSError):
            os.close(descriptor)
    if word_view(found)[count] != place.nonce:
        raise NotShared(f"{path} belongs to another engine")
    return found


def _bytes(count: int) -> int:
    """The size of `count` words and the nonce behind them."""
    return (count + 1) * WORD_BYTES
