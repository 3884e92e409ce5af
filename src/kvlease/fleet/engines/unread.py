"""The lapsed leases of a producer that nobody has read, which are given further chances before their blocks are reused.

It is what the product does (`kvlease.engine.unread`), with the model's pool and leases; but the product counts blocks
when their prefill is leased, and the model when they are taken.
"""

from collections import OrderedDict

from kvlease.fleet.engines.memory import FreeBlocks
from kvlease.fleet.records import FleetLease


class FleetUnread:
    """The leases that have lapsed unread. At most one is moved for each prompt, however many there are."""

    def __init__(self, chances: int) -> None:
        self._chances = chances
        self._taken = 0
        """The number of blocks that were taken since the start."""
        self._turns: OrderedDict[FleetLease, tuple[int, int]] = OrderedDict()
        """The turn of each lease: how many blocks will have been taken when half of those before it are gone, and the
        number of chances that it has."""

    def add(self, lease: FleetLease, free: int) -> None:
        """Takes a lease that has lapsed unread, whose blocks are now the last of those that are free."""
        if self._chances:
            self._turns[lease] = self._taken + free // 2, self._chances

    def drop(self, lease: FleetLease) -> None:
        """The lease lives again, or its blocks are somebody else's."""
        self._turns.pop(lease, None)

    def take(self, blocks: int, pool: FreeBlocks[FleetLease]) -> None:
        """Blocks are about to be taken: moves a lease to the end of the others before, if its turn comes too near."""
        self._taken += blocks
        lease = next(iter(self._turns), None)
        if lease is None:
            return
        at, chances = self._turns[lease]
        if at <= self._taken:
            del self._turns[lease]
            pool.move_to_end(lease)
            if chances > 1:
                self._turns[lease] = self._taken + pool.free // 2, chances - 1
