"""Decisions read from bytes: what a coverage-guided fuzzer changes, and what a replay needs."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Reads `data` from the front. When it is used up every answer is the first one, and `left` says so."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """Up to `count` bytes, as many as there are."""
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def number(self, size: int) -> int:
        """A whole number of `size` bytes, little-endian."""
        return int.from_bytes(self.take(size), "little")

    def below(self, limit: int) -> int:
        """From 0 to `limit` - 1; `limit` at most 65536."""
        return self.number(1 if limit <= 256 else 2) % limit

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def u64(self) -> int:
        """Any u64, but the remarkable ones often."""
        kind = self.below(6)
        if kind == 0:
            return self.number(8)
        return (self.number(1), 0, 2**64 - 1, 2**63, 2**53 + 1)[kind - 1]
