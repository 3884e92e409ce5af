"""A producer's worker: which of its fence words are armed, and for which request."""

from collections import Counter

from kvlease.fence import FenceTable
from kvlease.fence.slots import FenceOrders


class ArmedWords:
    """Arms and clears what the scheduler orders, and keeps account of what was cleared.

    By slot: a request's name may come again before the word of the last one that had it is cleared (vllm 27987, 15326).
    """

    def __init__(self, table: FenceTable) -> None:
        self._table = table
        self._request_of: dict[int, str] = {}
        """Of each armed slot."""
        self._latest: dict[str, int] = {}
        """The slot that was armed last for a request, while it is armed."""
        self.cleared: Counter[int] = Counter()
        """The slots cleared since `take_cleared` was last called."""

    def __contains__(self, request_id: str) -> bool:
        """Whether the word of this request's lease is armed here."""
        return request_id in self._latest

    def arm(self, orders: FenceOrders) -> None:
        """First thing in a step: a consumer may read before the next one."""
        for slot in orders.arm:
            self._table.arm(slot.index, slot.token)
            self._request_of[slot.index] = slot.request_id
            self._latest[slot.request_id] = slot.index

    def clear(self, slot: int) -> bool:
        """Clear the word; from then on, and not before, the worker may let the blocks go (S2).

        Returns whether these are the blocks of the request that bears the name now. Not so where the word was clear
        already, since a stock consumer's notice came before the scheduler's order; or where the name came again.
        """
        request_id = self._request_of.pop(slot, None)
        if request_id is None:
            return False
        self._table.clear(slot)
        self.cleared[slot] += 1
        if self._latest.get(request_id) != slot:
            return False
        del self._latest[request_id]
        return True

    def clear_request(self, request_id: str) -> bool:
        """The same by the request's name, which is all that a stock consumer's notice has."""
        slot = self._latest.get(request_id)
        return slot is not None and self.clear(slot)

    def take_cleared(self) -> Counter[int]:
        """The slots cleared since the last call."""
        cleared, self.cleared = self.cleared, Counter()
        return cleared
