"""A producer's own fence words, as its scheduler has them armed and cleared.

Where the workers run on the scheduler's host, it writes the words itself, in memory that it shares with them. Elsewhere
the workers do, by orders that go with their steps; there a word is clear only some steps after it was to be.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from kvlease.engine.orders import NO_ORDERS, FenceOrders
from kvlease.fence import FenceTable
from kvlease.fence.slots import Slot


class OwnFences(Protocol):
    """The fence words of all workers of an engine. Used by the scheduler's thread alone; every call costs O(1).

    Attributes: `at_once`: True where `clear` has cleared when it returns, so that a lease can stay readable until its
    blocks are given away. `has_orders`: True when `take_orders` would give any.
    """

    at_once: bool
    has_orders: bool

    def arm(self, slot: Slot) -> None:
        """Has the slot's word armed in every worker, before the step that begins now ends."""

    def clear(self, slot: Slot) -> bool:
        """Has the slot's word cleared in every worker. Returns True if it is clear; else `hear_cleared` tells."""

    def take_orders(self) -> FenceOrders:
        """Returns the orders for this step; each is handed out once."""

    def hear_cleared(self, cleared: Mapping[int, int]) -> list[Slot]:
        """Takes the workers' report (index to number of workers). Returns the slots that all have cleared."""


class SharedFences:
    """Words that the scheduler writes itself."""

    at_once = True
    has_orders = False

    def __init__(self, tables: Sequence[FenceTable]) -> None:
        """`tables`: one of each worker, in memory that is shared with it."""
        self._tables = tables

    def arm(self, slot: Slot) -> None:
        for table in self._tables:
            table.arm(slot.index, slot.token)

    def clear(self, slot: Slot) -> bool:
        for table in self._tables:
            table.clear(slot.index)
        return True

    def take_orders(self) -> FenceOrders:
        return NO_ORDERS

    def hear_cleared(self, cleared: Mapping[int, int]) -> list[Slot]:
        assert not cleared, f"workers cleared {cleared} without an order"
        return []


class OrderedFences:
    """Words that `workers` workers write by order."""

    at_once = False

    def __init__(self, workers: int) -> None:
        self.has_orders = False
        self._workers = workers
        self._arm: list[Slot] = []
        self._clear: list[Slot] = []
        self._clearing: dict[int, Slot] = {}
        """The slots whose words the workers are to clear, by index."""
        self._cleared: Counter[int] = Counter()
        """The number of workers that have cleared the word, by index."""

    def arm(self, slot: Slot) -> None:
        self._arm.append(slot)
        self.has_orders = True

    def clear(self, slot: Slot) -> bool:
        if slot.index not in self._clearing:
            self._clearing[slot.index] = slot
            self._clear.append(slot)
            self.has_orders = True
        return False

    def take_orders(self) -> FenceOrders:
        if not self.has_orders:
            return NO_ORDERS
        orders = FenceOrders(tuple(self._arm), tuple(self._clear))
        self._arm.clear()
        self._clear.clear()
        self.has_orders = False
        return orders

    def hear_cleared(self, cleared: Mapping[int, int]) -> list[Slot]:
        done = []
        for index, workers in cleared.items():
            self._cleared[index] += workers
            assert self._cleared[index] <= self._workers, f"slot {index} cleared by more workers than there are"
            if self._cleared[index] == self._workers:
                del self._cleared[index]
                done.append(self._clearing.pop(index))
        return done
