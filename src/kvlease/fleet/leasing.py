"""What the fleet tells a policy, and what a policy asks of it: when blocks are held, and what late reads come to."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal, Protocol

from kvlease.fleet.context import FleetContext
from kvlease.fleet.records import EngineLife, FleetLease, FleetRequest
from kvlease.simulation.agenda import Happening


class ReadVerdict(Enum):
    """What the consumer makes of a read that has ended."""

    ACCEPTED = "accepted"
    """It takes the data for what was asked for, rightly or wrongly."""
    REFUSED = "refused"
    """It knows that the blocks were taken back meanwhile."""
    FAILED = "failed"
    """It cannot find out, since the producer is dead."""


class HoldingEngine(Protocol):
    """What a policy asks of a producer."""

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
        """It makes no step before."""

    @property
    def leases(self) -> Mapping[int, FleetLease]:
        """By token: granted and not free."""

    def at_step(self, happen: Happening, subject: Any) -> None:
        """Call `happen(subject)` when the next step ends; never if it dies before."""

    def free(self, lease: FleetLease, cause: str) -> None:
        """The lease is over: its blocks go back to the pool, at the end of a step."""


class ReadingEngine(Protocol):
    """What a policy asks of a consumer."""

    @property
    def side(self) -> Literal["consumer"]: ...

    @property
    def index(self) -> int: ...

    @property
    def life(self) -> EngineLife:
        """The one that it is in, or the next one while it is dead."""

    @property
    def step_s(self) -> float:
        """How long a step takes now."""

    @property
    def stands_still(self) -> bool: ...

    @property
    def stalled_since(self) -> float: ...

    @property
    def stalled_until(self) -> float: ...


LeasingEngine = HoldingEngine | ReadingEngine


class Leasing(Protocol):
    """A policy at work. The engines tell it what happens; it calls `HoldingEngine.free` when a lease is over.

    Every call happens at `agenda.now`.
    """

    def started(self, engine: LeasingEngine) -> None:
        """It serves from now on, with empty memory and under a new incarnation. Nothing is said of it before."""

    def stalled(self, engine: LeasingEngine, until: float, process: bool) -> None:
        """It makes no steps until then; `process`: none of its threads runs."""

    def died(self, engine: LeasingEngine) -> None:
        """All of its processes are dead. Leases of a dead producer are ended already."""

    def granted(self, lease: FleetLease) -> None:
        """A prefill is done, its blocks are held from now on."""

    def wanted(self, request: FleetRequest, lease: FleetLease, consumer: ReadingEngine) -> None:
        """A consumer's scheduler knows a request, and will read its lease."""

    def unwanted(self, request: FleetRequest, lease: FleetLease, consumer: ReadingEngine) -> None:
        """The consumer is through with the lease. `lease.wanted` is still as it was."""

    def data_in(self, lease: FleetLease) -> bool:
        """The last byte was read out of a living producer. True: that alone lets go of the lease."""

    def lost(self, request: FleetRequest, consumer: ReadingEngine) -> bool:
        """Whether the consumer knows, before the read begins, that the lease is lost."""

    def verdict(self, lease: FleetLease) -> ReadVerdict:
        """The read has ended; what the consumer makes of it."""


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

    def open(self, context: FleetContext) -> Leasing:
        """A fresh one for a run, which is told of every engine as it starts."""
