"""The producer's side of the fence: one word per lease, which says whether the lease still lives.

`word[slot] == token` while the lease lives, 0 otherwise. A consumer that reads the token after its data has arrived
knows that this worker had freed nothing before (protocol.md, The fence).
"""

from typing import NamedTuple

from kvlease.fence.words import MAX_WORD, WORD_BYTES, Words


class FenceAddress(NamedTuple):
    """Where a worker's table is; what a consumer needs of it, next to the worker's agent metadata.

    `base` is an address in the worker's process, `slots` the number of words that follow.
    """

    base: int
    slots: int

    def word(self, slot: int) -> int:
        """The address of `slot`'s word. Raises `IndexError` when the table has no such slot."""
        if not 0 <= slot < self.slots:
            raise IndexError(f"slot {slot} is not in a fence table of {self.slots} slots")
        return self.base + slot * WORD_BYTES


class FenceTable:
    """The fence words of one producer worker. Used by one thread; read by anybody on the network at any time.

    Its words are to be registered before the agent's metadata is taken, or consumers cannot read them.
    """

    def __init__(self, words: Words) -> None:
        """A table in `words`, all clear; registered with the agent that serves the KV cache (`RegisteredWords`)."""
        self._words = words

    @property
    def address(self) -> FenceAddress:
        """What a consumer needs to read this table."""
        return FenceAddress(self._words.base, len(self._words))

    def arm(self, slot: int, token: int) -> None:
        """Say that the lease `token` (non-zero u64) lives in `slot`; a no-op when it says so already.

        Raises `RuntimeError` when the slot holds another token: a lease that still lives would be lost without a word.
        """
        if not 0 < token <= MAX_WORD:
            raise ValueError(f"a token is a non-zero u64, not {token}")
        held = self.word(slot)
        if held not in (0, token):
            raise RuntimeError(f"slot {slot} holds {held:#018x} and cannot be armed with {token:#018x}")
        self._words[slot] = token

    def clear(self, slot: int) -> None:
        """Say that the lease in `slot` has ended; before the request is reported as sent. A no-op when it is clear."""
        self._check(slot)
        self._words[slot] = 0

    def word(self, slot: int) -> int:
        """What a consumer would read now: a token, or 0."""
        self._check(slot)
        return self._words[slot]

    def close(self) -> None:
        """Clear all and withdraw the table from the network: a late reader gets an error or 0, never a token."""
        for slot in range(len(self._words)):
            self._words[slot] = 0
        self._words.deregister()

    def _check(self, slot: int) -> None:
        if not 0 <= slot < len(self._words):
            raise IndexError(f"slot {slot} is not in this fence table of {len(self._words)} slots")
