"""What travels between an engine's scheduler and its workers about leases."""

from collections import Counter
from dataclasses import dataclass, field

from kvlease.fence.slots import FenceOrders
from kvlease.protocol import LeaseRef


@dataclass(frozen=True, slots=True)
class LeaseOrders:
    """Scheduler to workers, in steps in which there is something to do."""

    fence: FenceOrders
    """Producer: the words to arm and to clear."""
    reads: dict[str, LeaseRef]
    """Consumer: of the requests that this step begins to read, those that are leased."""
    unreadable: frozenset[str]
    """Consumer: of the requests that this step begins to read, those that must not be: their load has failed."""


@dataclass(slots=True)
class WorkerReport:
    """Workers to scheduler, in steps in which there is something to tell."""

    cleared: Counter[int] = field(default_factory=Counter)
    """Producer: slots whose words were cleared, by how many workers."""
    heartbeats: set[str] = field(default_factory=set)
    """Producer: leased requests that stock consumers sent heartbeats for."""

    def __or__(self, other: "WorkerReport") -> "WorkerReport":
        """What two workers, or more, have to tell together."""
        return WorkerReport(self.cleared + other.cleared, self.heartbeats | other.heartbeats)
