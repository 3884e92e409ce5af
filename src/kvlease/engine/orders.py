"""The orders and reports about leases between an engine's scheduler and its workers."""

from collections import Counter
from dataclasses import dataclass, field

from kvlease.fence.slots import Slot
from kvlease.protocol import LeaseRef


@dataclass(frozen=True, slots=True)
class FenceOrders:
    """The orders to every worker for its table in one step: the words to arm, and those to clear."""

    arm: tuple[Slot, ...] = ()
    clear: tuple[Slot, ...] = ()


NO_ORDERS = FenceOrders()
"""The orders of nearly every step; of all steps where the scheduler writes the words itself."""


@dataclass(frozen=True, slots=True)
class LeaseOrders:
    """The scheduler's orders to the workers, in steps in which there is something to do."""

    fence: FenceOrders
    """The words to arm and to clear, on a producer."""
    reads: dict[str, LeaseRef]
    """The leased requests that this step begins to read, on a consumer."""
    unreadable: frozenset[str]
    """The requests that were to be read from this step on and must not be, on a consumer: their load has failed."""


@dataclass(slots=True)
class WorkerReport:
    """The workers' report to the scheduler, in steps in which there is something to tell."""

    cleared: Counter[int] = field(default_factory=Counter)
    """The slots whose words were cleared by order, with the number of workers that did so, on a producer."""
    heartbeats: set[str] = field(default_factory=set)
    """The requests that stock consumers sent heartbeats for, on a producer."""
    read: Counter[str] = field(default_factory=Counter)
    """The requests that stock consumers have read, with the number of workers that were told so, on a producer."""
    unused: dict[str, str] = field(default_factory=dict)
    """The requests whose data is not used, with the fence's word on it: revoked, failed or no_fence; on a consumer."""

    def __or__(self, other: "WorkerReport") -> "WorkerReport":
        """Returns the report of several workers together."""
        return WorkerReport(
            self.cleared + other.cleared,
            self.heartbeats | other.heartbeats,
            self.read + other.read,
            other.unused | self.unused,
        )
