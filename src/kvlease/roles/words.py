"""A producer's worker: which request has which word of its fence table."""

from collections import Counter

from kvlease.fence import FenceTable
from kvlease.fence.ledger import FenceOrders


class WorkerWords:
    """Arms and clears what the scheduler orders, and keeps account of what was cleared."""

    def __init__(self, table: FenceTable | None) -> None:
        """`table`: None for an engine that is no producer, and gets no orders."""
        self._table = table
        self._slots: dict[str, int] = {}
        self.cleared: Counter[int] = Counter()
        """The slots cleared since `take_cleared` was last called."""

    def __contains__(self, request_id: str) -> bool:
        """Whether the word of this request's lease is armed here."""
        return request_id in self._slots

    def arm(self, orders: FenceOrders) -> None:
        """First thing in a step: a consumer may read before the next one."""
        for word in orders.arm:
            assert self._table is not None
            self._table.arm(word.slot, word.token)
            self._slots[word.request_id] = word.slot

    def clear(self, request_id: str) -> bool:
        """Clear the word; from then on, and not before, the worker may let the blocks go (S2).

        False where it was clear already: a stock consumer's notice came before the scheduler's order, or after it.
        """
        slot = self._slots.pop(request_id, None)
        if slot is None:
            return False
        assert self._table is not None
        self._table.clear(slot)
        self.cleared[slot] += 1
        return True

    def take_cleared(self) -> Counter[int]:
        """The slots cleared since the last call."""
        cleared, self.cleared = self.cleared, Counter()
        return cleared
