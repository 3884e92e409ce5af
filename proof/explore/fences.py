"""The fence of a producer in the explored world: its slots and its workers' tables, which tell what happens to them."""

from collections.abc import Callable
from dataclasses import dataclass

from kvlease.engine.worker import LeaseWorker
from kvlease.fence.slots import FenceSlots, Slot
from kvlease.testing.clock import ManualClock
from proof.explore.wire import ListedReads, ListedWords, new_verifier, no_cards
from proof.promises.watched import WatchedTable

TOKENS = (0xA1, 0xB2, 0xC3, 0xE4)
"""The tokens, one a lease, in the order of their prefills; different in their lowest three bits (`canonical`)."""


@dataclass(slots=True)
class Draw:
    """The source of tokens, which is not chance here."""

    drawn: int

    def __call__(self) -> int:
        self.drawn += 1
        return TOKENS[self.drawn - 1]


class WatchedSlots(FenceSlots):
    """Slots that report when they are taken and when they are free again."""

    __slots__ = ("_tell",)

    def __init__(self, count: int, draw: Callable[[], int], tell: Callable[..., None]) -> None:
        """`tell` is called with `prepared`, a slot and its token, or with `slot_released` and a slot."""
        super().__init__(count, draw)
        self._tell = tell

    def take(self, request_id: str) -> Slot:
        slot = super().take(request_id)
        self._tell("prepared", slot.index, slot.token)
        return slot

    def retire(self, slot: Slot) -> None:
        super().retire(slot)
        self._tell("slot_released", slot.index)


class Worker:
    """A worker of the producer: its fence table, and the blocks of its memory."""

    def __init__(self, slots: int, blocks: int, watch: Callable[[int, int], None]) -> None:
        self.table = WatchedTable(ListedWords(slots), watch)
        self.leases = LeaseWorker(self.table, new_verifier(ListedReads(), ListedWords(1), ManualClock(0.0)), no_cards)
        self.contents = [0] * blocks
        """The token of the lease that each block was written for; 0 for none."""


@dataclass(frozen=True, slots=True)
class WorkerStep:
    """A worker in one step (`kvlease.engine.ports.HostWorker`); it reads nothing from other engines."""

    def load(self) -> None: ...

    def fail(self, request_id: str) -> None:
        raise AssertionError(f"{request_id}: a producer reads nothing")
