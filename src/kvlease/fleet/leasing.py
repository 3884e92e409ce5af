"""The interface between the fleet and a policy, which decides when blocks are held and how late reads end."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal, Protocol

from kvlease.fleet.context import FleetContext
from kvlease.fleet.records import EngineLife, FleetLease, FleetRequest
from kvlease.simulation.agenda import Happening


class ReadVerdict(Enum):
    """The consumer's verdict on a read that has ended."""

    ACCEPTED = "accepted"
    """The consumer takes the data for what was asked for, rightly or wrongly."""
    REFUSED = "refused"
    """The consumer knows that the blocks were freed meanwhile."""
    FAILED = "failed"
    """The consumer cannot find out, since the producer is dead."""


class HoldingEngine(Protocol):
    """A producer as a policy uses it."""

    @property
    def side(self) -> Literal["producer"]: ...

    @property
    def index(self) -> int: ...

    @property
    def life(self) -> EngineLife:
        """The one that it is in, or the next one while it is dead."""

    @property
    def alive(self) -> bool: ...

    @property
    def stalled_until(self) -> float:
        """The time before which it makes no step."""

    @property
    def leases(self) -> Mapping[int, FleetLease]:
        """The leases whose blocks are held, by token."""

    @property
    def lapsed(self) -> Mapping[int, FleetLease]:
        """The leases whose blocks are free, and still their own."""

    def at_step(self, happen: Happening, subject: Any) -> None:
        """Calls `happen(subject)` when the next step ends; never if the engine dies before."""

    def free(self, lease: FleetLease, cause: str) -> None:
        """Ends a lease: its blocks go back to the pool. It is called at the end of a step."""

    def lapse(self, lease: FleetLease, cause: str, last: bool) -> None:
        """Gives the blocks of a lease back, which remain its own until they are reused; after all others if `last`."""

    def revive(self, lease: FleetLease) -> None:
        """Holds the blocks of a lapsed lease again."""


class ReadingEngine(Protocol):
    """A consumer as a policy uses it."""

    @property
    def side(self) -> Literal["consumer"]: ...

    @property
    def index(self) -> int: ...

    @property
    def life(self) -> EngineLife:
        """The one that it is in, or the next one while it is dead."""

    @property
    def step_s(self) -> float:
        """The seconds that a step takes now."""

    @property
    def stands_still(self) -> bool: ...

    @property
    def stalled_since(self) -> float: ...

    @property
    def stalled_until(self) -> float: ...


LeasingEngine = HoldingEngine | ReadingEngine


class Leasing(Protocol):
    """A policy at work. The engines tell it what happens; it calls `HoldingEngine.free` or `lapse` when one is over.

    Every call happens at `agenda.now`.
    """

    def started(self, engine: LeasingEngine) -> None:
        """An engine serves from now on, with empty memory and under a new incarnation. Its first call is this one."""

    def stalled(self, engine: LeasingEngine, until: float, process: bool) -> None:
        """An engine makes no steps until a time; `process`: none of its threads runs, either."""

    def died(self, engine: LeasingEngine) -> None:
        """All processes of an engine are dead. Leases of a dead producer are ended already."""

    def granted(self, lease: FleetLease) -> None:
        """A prefill is done, and its blocks are held from now on."""

    def reused(self, lease: FleetLease) -> None:
        """A block of a lapsed lease is about to be given to somebody else."""

    def wanted(self, request: FleetRequest, lease: FleetLease, consumer: ReadingEngine) -> None:
        """A consumer's scheduler knows a request, and will read its lease."""

    def unwanted(self, request: FleetRequest, lease: FleetLease, consumer: ReadingEngine) -> None:
        """The consumer does not need the lease any more. `lease.wanted` has not changed yet."""

    def data_in(self, lease: FleetLease) -> bool:
        """The last byte was read from a living producer. Tells whether that alone lets go of the lease."""

    def lost(self, request: FleetRequest, consumer: ReadingEngine) -> bool:
        """Tells whether the consumer knows, before the read begins, that the lease is lost."""

    def verdict(self, lease: FleetLease) -> ReadVerdict:
        """Returns the consumer's verdict on a read that has ended."""


class Policy(Protocol):
    """A way to hold blocks, with its settings, as plain data. `open` makes the object that plays it in one run."""

    @property
    def name(self) -> str:
        """The name for people, such as `flat 480 s`; no two policies of one comparison have the same."""

    @property
    def kind(self) -> str:
        """The kind: `flat`, `stock` or `kvlease`."""

    @property
    def references_last(self) -> bool:
        """True when a reference may be used again, whatever became of its lease: no read of it is ever wrong."""

    @property
    def settings(self) -> Mapping[str, float]:
        """The settings, in seconds unless the name says otherwise."""

    def open(self, context: FleetContext) -> Leasing:
        """Returns a new `Leasing` for a run, which is told of every engine as it starts."""
