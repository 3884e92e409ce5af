"""The slots of the fence, and the leases that have them, on the producer's scheduler side.

The words themselves are the workers'; here are the leases that they belong to, and the orders to the workers for the
next step. A slot is given out again only after every worker has cleared its word, and a token never (S3).
"""

import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a request's lease in the fence: the word at `index` of every worker's table holds `token`."""

    request_id: str
    index: int
    token: int


@dataclass(frozen=True, slots=True)
class FenceOrders:
    """The orders to every worker for its table in one step: the words to arm, and those to clear."""

    arm: tuple[Slot, ...] = ()
    clear: tuple[Slot, ...] = ()


NO_ORDERS = FenceOrders()
"""The orders of nearly every step."""


class SlotsSnapshot(NamedTuple):
    """The slots and their tokens at a moment."""

    total: int
    """The number of slots, free or in use."""
    used: Mapping[int, int]
    """The token of each slot in use, by index; slots whose clearing is not yet reported are included."""


def draw_token() -> int:
    """Returns a random u64 that is not 0: too many values for anybody to guess one, or for two to be equal."""
    while (token := secrets.randbits(64)) == 0:
        pass
    return token


@dataclass(slots=True)
class FenceSlots:
    """The slots of `workers` equal fence tables. Used by the scheduler's thread alone; every call costs O(1)."""

    count: int
    workers: int
    draw: Callable[[], int] = draw_token
    has_orders: bool = field(init=False, default=False)
    """True when `take_orders` would give any. It is kept, not derived, since every step asks."""
    _free: deque[int] = field(init=False)
    _by_request: dict[str, Slot] = field(init=False, default_factory=dict)
    _by_token: dict[int, Slot] = field(init=False, default_factory=dict)
    _by_index: dict[int, Slot] = field(init=False, default_factory=dict)
    _cleared: Counter[int] = field(init=False, default_factory=Counter)
    """The number of workers that have cleared the word, by index."""
    _clearing: set[int] = field(init=False, default_factory=set)
    """The tokens whose words the workers are to clear."""
    _arm: list[Slot] = field(init=False, default_factory=list)
    _clear: list[Slot] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        # First in, first out: the longer a slot is unused, the less can still refer to it.
        self._free = deque(range(self.count))

    def __len__(self) -> int:
        """The number of slots in use, those whose clearing is not yet reported included."""
        return len(self._by_index)

    def of(self, request_id: str) -> Slot | None:
        """Returns the slot of this request's lease, from `take` until its clearing is ordered."""
        return self._by_request.get(request_id)

    def take(self, request_id: str) -> Slot | None:
        """Give the request a slot and order every worker to arm its word; None when all are in use."""
        assert request_id not in self._by_request, f"{request_id} has a slot already"
        if not self._free:
            return None
        token = self.draw()
        assert token not in self._by_token, f"token {token:016x} names two leases"
        slot = Slot(request_id, self._free.popleft(), token)
        self._by_request[request_id] = self._by_token[token] = self._by_index[slot.index] = slot
        self._arm.append(slot)
        self.has_orders = True
        return slot

    def order_clear(self, token: int) -> None:
        """Order every worker to clear the lease's word; a no-op for a lease that is cleared or about to be."""
        slot = self._by_token.get(token)
        if slot is None or token in self._clearing:
            return
        self._clearing.add(token)
        self._by_request.pop(slot.request_id, None)
        self._clear.append(slot)
        self.has_orders = True

    def take_orders(self) -> FenceOrders:
        """Returns the orders for this step; each is handed out once. `NO_ORDERS` when there is nothing."""
        if not self.has_orders:
            return NO_ORDERS
        orders = FenceOrders(tuple(self._arm), tuple(self._clear))
        self._arm.clear()
        self._clear.clear()
        self.has_orders = False
        return orders

    def hear_cleared(self, cleared: Mapping[int, int]) -> list[Slot]:
        """Workers have cleared these words (index to number of workers). Returns the slots that all have cleared."""
        done = []
        for index, workers in cleared.items():
            slot = self._by_index[index]
            self._cleared[index] += workers
            assert self._cleared[index] <= self.workers, f"slot {index} cleared by more workers than there are"
            if self._cleared[index] == self.workers:
                self._retire(slot)
                done.append(slot)
        return done

    def snapshot(self) -> SlotsSnapshot:
        """Returns the slots and their tokens now."""
        return SlotsSnapshot(self.count, {index: slot.token for index, slot in self._by_index.items()})

    def _retire(self, slot: Slot) -> None:
        del self._cleared[slot.index], self._by_index[slot.index], self._by_token[slot.token]
        if self._by_request.get(slot.request_id) is slot:
            # Otherwise a second request of the same name came meanwhile, and the entry is its own slot.
            del self._by_request[slot.request_id]
        self._clearing.discard(slot.token)
        self._free.append(slot.index)
