"""What a policy is to the fleet: when blocks are held, for whom, and what a late read comes to."""

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kvlease.fleet.decode import Consumer
    from kvlease.fleet.prefill import Producer
    from kvlease.fleet.records import Lease, Request
    from kvlease.fleet.world import World


class Verdict(Enum):
    """What the consumer makes of a read that has ended."""

    ACCEPTED = "accepted"
    """It takes the data for what was asked for, rightly or wrongly."""
    REFUSED = "refused"
    """It knows that the blocks were taken back meanwhile."""
    FAILED = "failed"
    """It cannot find out, since the producer is dead."""


class Policy(Protocol):
    """A way to hold blocks, with its settings: plain data. `open` makes what plays it in one run."""

    @property
    def name(self) -> str:
        """For people, such as `flat 480 s`; no two of one comparison have the same."""

    @property
    def kind(self) -> str:
        """`flat`, `stock` or `kvlease`."""

    @property
    def settings(self) -> Mapping[str, float]:
        """Its numbers, in seconds unless the name says otherwise."""

    def open(self, world: "World") -> "Leasing":
        """A fresh one for a run."""


class Leasing(Protocol):
    """A policy at work. The engines tell it what happens; it calls `Producer.free` when a lease is over.

    Every call happens at `world.agenda.now`.
    """

    def granted(self, lease: "Lease") -> None:
        """A prefill is done, its blocks are held from now on."""

    def wanted(self, request: "Request", consumer: "Consumer") -> None:
        """A consumer's scheduler knows a request whose lease is `request.lease`, and will read it."""

    def unwanted(self, request: "Request", lease: "Lease", consumer: "Consumer") -> None:
        """The consumer is through with the lease. `lease.wanted` is still as it was."""

    def data_in(self, lease: "Lease") -> bool:
        """The last byte was read out of a living producer. True: that alone lets go of the lease."""

    def lost(self, request: "Request", consumer: "Consumer") -> bool:
        """Whether the consumer knows, before the read begins, that the lease is lost."""

    def verdict(self, lease: "Lease") -> Verdict:
        """The read has ended; what the consumer makes of it."""

    def died(self, engine: "Producer | Consumer") -> None:
        """All processes of the engine are dead. Leases of a dead producer are ended already."""

    def started(self, engine: "Producer | Consumer") -> None:
        """It serves again, with empty memory and under a new incarnation."""

    def stalled(self, engine: "Producer | Consumer", until: float, process: bool) -> None:
        """It makes no steps until then; `process`: none of its threads runs."""
