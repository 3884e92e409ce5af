"""The slots of the fence, and the leases that have them, on the producer's scheduler side.

A slot is given out again only when its word is clear in every worker, and a token never (S3).
"""

import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a request's lease in the fence: the word at `index` of every worker's table holds `token`."""

    request_id: str
    index: int
    token: int


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
    """The `count` slots of equal fence tables. Used by the scheduler's thread alone; every call costs O(1)."""

    count: int
    draw: Callable[[], int] = draw_token
    _free: deque[int] = field(init=False)
    _by_request: dict[str, Slot] = field(init=False, default_factory=dict)
    _by_token: dict[int, Slot] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        # First in, first out: the longer a slot is unused, the less can still refer to it.
        self._free = deque(range(self.count))

    def __len__(self) -> int:
        """The number of slots in use, those whose clearing is not yet reported included."""
        return len(self._by_token)

    @property
    def full(self) -> bool:
        """Tells whether all slots are in use."""
        return not self._free

    def of(self, request_id: str) -> Slot | None:
        """Returns the slot of this request's lease, from `take` until `forget`."""
        return self._by_request.get(request_id)

    def holding(self, token: int) -> Slot | None:
        """Returns the slot of this lease, from `take` until `retire`."""
        return self._by_token.get(token)

    def take(self, request_id: str) -> Slot:
        """Gives the request a slot, of which there must be one."""
        assert request_id not in self._by_request, f"{request_id} has a slot already"
        token = self.draw()
        assert token not in self._by_token, f"token {token:016x} names two leases"
        slot = Slot(request_id, self._free.popleft(), token)
        self._by_request[request_id] = self._by_token[token] = slot
        return slot

    def forget(self, slot: Slot) -> None:
        """Lets another request have this one's name; a no-op when it does already."""
        if self._by_request.get(slot.request_id) is slot:
            del self._by_request[slot.request_id]

    def retire(self, slot: Slot) -> None:
        """Takes the slot back: its word is clear in every worker."""
        self.forget(slot)
        del self._by_token[slot.token]
        self._free.append(slot.index)

    def snapshot(self) -> SlotsSnapshot:
        """Returns the slots and their tokens now."""
        return SlotsSnapshot(self.count, {slot.index: slot.token for slot in self._by_token.values()})
