"""The producer's side of the fence: one word per lease, which says whether its blocks are still its own.

`word[slot] == token` until the first block of the lease is given to somebody else, 0 from then on. A consumer that
reads the token after its data has arrived knows that nobody else had its blocks before (docs/protocol/fence.md).
"""

from typing import NamedTuple

from kvlease.fence.words import MAX_WORD, WORD_BYTES, Words


class FenceAddress(NamedTuple):
    """The place of a worker's table, which a consumer needs besides the worker's agent metadata.

    `base` is an address in the worker's process, `slots` the number of words that follow.
    """

    base: int
    slots: int

    def word(self, slot: int) -> int:
        """Returns the address of `slot`'s word. Raises `IndexError` when the table has no such slot."""
        if not 0 <= slot < self.slots:
            raise IndexError(f"slot {slot} is not in a fence table of {self.slots} slots")
        return self.base + slot * WORD_BYTES


class FenceTable:
    """The fence words of one producer worker. Written by one thread; read by anybody on the network at any time.

    Its words must be registered before the agent's metadata is taken, or consumers cannot read them.
    """

    def __init__(self, words: Words) -> None:
        """`words`: all clear, and registered with the agent that serves the KV cache (`RegisteredWords`)."""
        self._words = words

    @property
    def address(self) -> FenceAddress:
        """The address that a consumer needs to read this table."""
        return FenceAddress(self._words.base, len(self._words))

    def arm(self, slot: int, token: int) -> None:
        """Writes `token` (non-zero u64) into `slot`: its blocks are the lease's. A no-op when it is there already.

        Raises `RuntimeError` when the slot holds another token: a lease that still lives would be lost silently.
        """
        if not 0 < token <= MAX_WORD:
            raise ValueError(f"a token is a non-zero u64, not {token}")
        held = self.word(slot)
        if held not in (0, token):
            raise RuntimeError(f"slot {slot} holds {held:#018x} and cannot be armed with {token:#018x}")
        self._words[slot] = token

    def clear(self, slot: int) -> None:
        """Writes 0 into `slot`: the lease has ended. It is done before its blocks are given to anybody. Idempotent."""
        self._check(slot)
        self._words[slot] = 0

    def word(self, slot: int) -> int:
        """Returns what a consumer would read now: a token, or 0."""
        self._check(slot)
        return self._words[slot]

    def close(self) -> None:
        """Clears all and withdraws the table from the network: a late reader gets an error or 0, never a token."""
        for slot in range(len(self._words)):
            self._words[slot] = 0
        self._words.deregister()

    def _check(self, slot: int) -> None:
        if not 0 <= slot < len(self._words):
            raise IndexError(f"slot {slot} is not in this fence table of {len(self._words)} slots")
