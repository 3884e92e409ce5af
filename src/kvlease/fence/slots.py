"""Which lease has which slot of the fence, on the producer's scheduler side.

The words themselves lie with the workers; here is who they belong to, and what the workers are to do in the next step.
A slot is given out again only after every worker has cleared its word, and a token never (S3).
"""

import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a request's lease in the fence: `token` in the word at `index` of every worker's table."""

    request_id: str
    index: int
    token: int


@dataclass(frozen=True, slots=True)
class FenceOrders:
    """What every worker is to do to its table in one step: which words to arm, and which to clear."""

    arm: tuple[Slot, ...] = ()
    clear: tuple[Slot, ...] = ()


NO_ORDERS = FenceOrders()
"""Of nearly every step."""


class SlotsSnapshot(NamedTuple):
    """Who has which slot at a moment."""

    total: int
    """Those in use, and the free ones."""
    used: Mapping[int, int]
    """Index to token; those whose clearing is not yet reported are among them."""


def draw_token() -> int:
    """A random u64 that is not 0. Guessing one is as hard as guessing a key; 2^64 is enough not to meet one twice."""
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
    """Whether `take_orders` would give any. Kept, not derived, since every step asks."""
    _free: deque[int] = field(init=False)
    _by_request: dict[str, Slot] = field(init=False, default_factory=dict)
    _by_token: dict[int, Slot] = field(init=False, default_factory=dict)
    _by_index: dict[int, Slot] = field(init=False, default_factory=dict)
    _cleared: Counter[int] = field(init=False, default_factory=Counter)
    """By index, how many workers have cleared the word."""
    _clearing: set[int] = field(init=False, default_factory=set)
    """Tokens whose words the workers are to clear."""
    _arm: list[Slot] = field(init=False, default_factory=list)
    _clear: list[Slot] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        # First in, first out: the longer a slot rests, the better.
        self._free = deque(range(self.count))

    def __len__(self) -> int:
        """Slots in use, those whose clearing is not yet reported included."""
        return len(self._by_index)

    def of(self, request_id: str) -> Slot | None:
        """The slot of this request's lease, from `take` until its clearing is ordered."""
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
        """What the workers are to do in this step; each order is handed out once. `NO_ORDERS` when there is nothing."""
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
        """Who has which slot now."""
        return SlotsSnapshot(self.count, {index: slot.token for index, slot in self._by_index.items()})

    def _retire(self, slot: Slot) -> None:
        del self._cleared[slot.index], self._by_index[slot.index], self._by_token[slot.token]
        if self._by_request.get(slot.request_id) is slot:
            # Otherwise the same name came again meanwhile, and this is its own slot by now.
            del self._by_request[slot.request_id]
        self._clearing.discard(slot.token)
        self._free.append(slot.index)
