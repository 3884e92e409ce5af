"""The fence words of a simulated producer, as its scheduler has them written, looked at from outside."""

from collections.abc import Callable, Mapping

from kvlease.engine.orders import FenceOrders
from kvlease.engine.own_fences import OwnFences
from kvlease.fence.slots import Slot


class ToldFences:
    """The product's `OwnFences`, with somebody who is told before a slot's word is armed.

    Attributes: `cleared`: the tokens whose words were to be cleared since it was emptied.
    """

    def __init__(self, fences: OwnFences, prepared: Callable[[Slot], None]) -> None:
        self.at_once = fences.at_once
        self.cleared: list[int] = []
        self._fences = fences
        self._prepared = prepared

    @property
    def has_orders(self) -> bool:
        return self._fences.has_orders

    @has_orders.setter
    def has_orders(self, has: bool) -> None:
        self._fences.has_orders = has

    def arm(self, slot: Slot) -> None:
        self._prepared(slot)
        self._fences.arm(slot)

    def clear(self, slot: Slot) -> bool:
        self.cleared.append(slot.token)
        return self._fences.clear(slot)

    def take_orders(self) -> FenceOrders:
        return self._fences.take_orders()

    def hear_cleared(self, cleared: Mapping[int, int]) -> list[Slot]:
        return self._fences.hear_cleared(cleared)
