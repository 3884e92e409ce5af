"""The fence words that a producer's worker arms and clears by order, where its scheduler cannot do so itself."""

from collections import Counter

from kvlease.engine.orders import FenceOrders
from kvlease.fence import FenceTable


class ArmedWords:
    """Arms and clears words as the scheduler orders, and counts the cleared ones."""

    def __init__(self, table: FenceTable) -> None:
        self._table = table
        self.cleared: Counter[int] = Counter()
        """The slots cleared since `take_cleared` was last called."""

    def arm(self, orders: FenceOrders) -> None:
        """Arms the words that the scheduler orders, first in a step: a consumer may read before the next one."""
        for slot in orders.arm:
            self._table.arm(slot.index, slot.token)

    def clear(self, orders: FenceOrders) -> None:
        """Clears the words that the scheduler orders; it lets go of their blocks when all workers have."""
        for slot in orders.clear:
            self._table.clear(slot.index)
            self.cleared[slot.index] += 1

    def take_cleared(self) -> Counter[int]:
        """Returns the slots cleared since the last call."""
        cleared, self.cleared = self.cleared, Counter()
        return cleared
