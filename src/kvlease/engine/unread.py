"""The lapsed leases that nobody has read, and the order in which they are given further chances in the block pool.

A pool gives its free blocks away in the order in which they came back. So what has lapsed can be read for as long as it
takes to go through all of them: seconds, where much is computed, and a consumer that stands still comes back later. A
lease whose turn comes near is moved behind all others, some times. Each move makes as many other free blocks go sooner,
which somebody might have found in the pool's cache: hence the bound.
"""

from collections import OrderedDict
from typing import NamedTuple

CHANCES = 8
"""The number of times that a lease is moved. In a simulated fleet whose consumers stand still for seconds now and then,
8 leave a fifth of the prefills wasted that are wasted without, and 3 two fifths (decision 0024)."""


class UnreadLeases:
    """The unread leases in the order in which they lapsed or were moved. Each call costs the same at any number."""

    def __init__(self) -> None:
        self._taken = 0
        """The number of blocks that leases have taken since there are any here. It says nothing of before, so that the
        explorer finds equal states equal."""
        self._turns: OrderedDict[int, _Turn] = OrderedDict()

    def add(self, token: int, free: int, chances: int = CHANCES) -> None:
        """Takes a lease whose blocks have become the last of the pool's `free` ones. `chances`: how often it is moved
        from now on; without any it is not kept here."""
        if not self._turns:
            self._taken = 0
        if chances:
            self._turns[token] = _Turn(self._taken + free // 2, chances)

    def discard(self, token: int) -> None:
        """The lease lives again or has ended; a no-op for one that was read, or has had its chances."""
        self._turns.pop(token, None)

    def take(self, blocks: int) -> tuple[int, int] | None:
        """Notes that so many blocks were taken. Returns the lease that is to be moved now, which is not kept here any
        more, and the chances that it has after that; None where there is no such lease."""
        if not self._turns:
            return None
        self._taken += blocks
        token, turn = next(iter(self._turns.items()))
        if turn.at > self._taken:
            return None
        del self._turns[token]
        return token, turn.chances - 1


class _Turn(NamedTuple):
    at: int
    """The number of blocks that will have been taken when half of those before the lease's own are."""
    chances: int
