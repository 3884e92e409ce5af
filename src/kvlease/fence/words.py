"""Words of host memory that other machines can read: the material of the fence table and of the landing words.

A word is 8 bytes, little-endian, aligned to 8. One that is read over the network while it is written must never be
seen half written. CPython stores an item of a `Q` memoryview with a `memcpy` of constant size 8, which compilers turn
into one store; an aligned 8-byte store is single on x86-64 and on AArch64, for other cores and for a NIC's DMA alike.
`mmap` memory is page-aligned, so every word is.
"""

import ctypes
import mmap
import sys
from collections.abc import Sequence
from typing import Any, Protocol

WORD_BYTES = 8
"""The size of a word, which is little-endian and aligned to its size."""
MAX_WORD = (1 << 64) - 1
"""The greatest token."""


class DataAgent(Protocol):
    """The part of NIXL's agent, `nixl._api.nixl_agent`, that the fence uses."""

    def get_reg_descs(self, descs: Any, mem_type: str) -> Any: ...

    def register_memory(self, reg_list: Any, *, backends: list[str]) -> Any: ...

    def deregister_memory(self, dereg_list: Any) -> None: ...

    def get_xfer_descs(self, descs: Any, mem_type: str) -> Any: ...

    def initialize_xfer(self, operation: str, local_descs: Any, remote_descs: Any, remote_agent: str) -> Any: ...

    def transfer(self, handle: Any) -> str: ...

    def check_xfer_state(self, handle: Any) -> str: ...

    def release_xfer_handle(self, handle: Any) -> None: ...


class Words(Protocol):
    """A store of words, for the fence's table and for the verifier's landing words.

    Implementations: `RegisteredWords`, in memory that the network reads; lists, in models that are to be copied.
    """

    base: int
    """The address of the first word in this process."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> int: ...

    def __setitem__(self, index: int, value: int) -> None: ...

    def address(self, index: int) -> int:
        """The address of word `index` in this process."""

    def deregister(self) -> None:
        """Withdraw the words from the network; a no-op the second time. They stay readable in this process."""


def word_view(memory: mmap.mmap) -> "memoryview[int]":
    """Returns memory, whose size is a multiple of 8 bytes, as words."""
    return memoryview(memory).cast("Q")


class WordsInMemory:
    """Words in memory of this process: the base of all that are `Words` and no list."""

    def __init__(self, memory: mmap.mmap, count: int) -> None:
        """Takes the first `count` words of `memory`."""
        self._words = word_view(memory)[:count]

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[index] = value


class RegisteredWords(WordsInMemory):
    """`count` words, all 0 at first, registered with `agent` for one-sided access.

    Attributes: `base` is the address of the first word in this process.
    """

    def __init__(
        self, agent: DataAgent, count: int, backends: Sequence[str] = (), *, memory: mmap.mmap | None = None
    ) -> None:
        """`backends`: the names of the agent's backends to register with; none means all that can. `memory`: where the
        words are to be (`shared.SharedMemory`); none means memory of their own.

        Raises `ValueError` when `count` is less than 1, and what NIXL raises when it cannot register the memory.
        """
        if sys.byteorder != "little":
            raise RuntimeError("the fence's words are little-endian; this machine is not")
        if count < 1:
            raise ValueError(f"at least one word is needed, not {count}")
        # The memory is shared, not private: after a fork, a store to a private page would move it to another frame, and
        # a NIC would go on reading the old one.
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
        self._memory = mmap.mmap(-1, count * WORD_BYTES, flags=flags) if memory is None else memory
        super().__init__(self._memory, count)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        assert self.base % mmap.PAGESIZE == 0
        self._agent = agent
        self._registration = agent.register_memory(
            agent.get_reg_descs([(self.base, count * WORD_BYTES, 0, "")], "DRAM"), backends=list(backends)
        )

    def address(self, index: int) -> int:
        """The address of word `index` in this process."""
        assert 0 <= index < len(self._words), index
        return self.base + index * WORD_BYTES

    def deregister(self) -> None:
        """Withdraw the words from the network; a no-op the second time. They stay readable in this process."""
        registration, self._registration = self._registration, None
        if registration is not None:
            self._agent.deregister_memory(registration)
