"""Decisions read from bytes, which a coverage-guided fuzzer can change and a replay can repeat."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Reads `data` from the front. Once it is used up, `left` is false and every answer is the first possible one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """The next `count` bytes, or as many as are left."""
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def number(self, size: int) -> int:
        """A whole number of `size` bytes, little-endian."""
        return int.from_bytes(self.take(size), "little")

    def below(self, limit: int) -> int:
        """A whole number from 0 to `limit` - 1; `limit` is at most 65536."""
        return self.number(1 if limit <= 256 else 2) % limit

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def u64(self) -> int:
        """Any u64, often a remarkable one."""
        kind = self.below(6)
        if kind == 0:
            return self.number(8)
        return (self.number(1), 0, 2**64 - 1, 2**63, 2**53 + 1)[kind - 1]
