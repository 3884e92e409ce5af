"""The fence words of a producer's worker that are armed, and the requests that they are for."""

from collections import Counter

from kvlease.fence import FenceTable
from kvlease.fence.slots import FenceOrders


class ArmedWords:
    """Arms and clears words as the scheduler orders, and counts the cleared ones.

    Words are kept by slot, since a name may be another request's before its word is cleared (vllm 27987, 15326).
    """

    def __init__(self, table: FenceTable) -> None:
        self._table = table
        self._request_of: dict[int, str] = {}
        """The request of each armed slot."""
        self._latest: dict[str, int] = {}
        """The slot that was armed last for each request, while it is armed."""
        self.cleared: Counter[int] = Counter()
        """The slots cleared since `take_cleared` was last called."""

    def __contains__(self, request_id: str) -> bool:
        """Tells whether the word of this request's lease is armed here."""
        return request_id in self._latest

    def arm(self, orders: FenceOrders) -> None:
        """Arms the words that the scheduler orders, first in a step: a consumer may read before the next one."""
        for slot in orders.arm:
            self._table.arm(slot.index, slot.token)
            self._request_of[slot.index] = slot.request_id
            self._latest[slot.request_id] = slot.index

    def clear(self, slot: int) -> bool:
        """Clears the word; only then may the worker let go of the blocks (S2).

        Tells whether these are the blocks of the request that bears the name now. They are not where the word was clear
        already, since a stock consumer's notice came before the scheduler's order, or where another request has the
        name.
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
        """Clears the word by its request's name, which is all that a stock consumer's notice has."""
        slot = self._latest.get(request_id)
        return slot is not None and self.clear(slot)

    def take_cleared(self) -> Counter[int]:
        """Returns the slots cleared since the last call."""
        cleared, self.cleared = self.cleared, Counter()
        return cleared
