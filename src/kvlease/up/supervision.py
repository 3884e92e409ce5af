"""The decision which process is started when: a state for each, and what has happened to it. No clock, no I/O.

    WAITING --begun--> STARTING --ready--> READY
       ^                  |                  |
       +------ended-------+------ended-------+

Every call takes `now`, in seconds of a clock that never goes back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from kvlease.up.plan import LaunchRole
from kvlease.up.schedule import BackOff
from kvlease.up.wanted import ENGINE_ROLES


class ProcessPhase(Enum):
    """The state of a process."""

    WAITING = "waiting"
    """It is not running, and will be started: at the beginning, or after a pause."""
    STARTING = "starting"
    READY = "ready"


@dataclass(slots=True)
class Supervised:
    """One process, and what has become of it so far."""

    name: str
    role: LaunchRole
    phase: ProcessPhase = ProcessPhase.WAITING
    since: float = 0.0
    """The time at which it came into this phase."""
    start_at: float = 0.0
    restarts: int = 0
    ends: int = 0
    """The ends in a row, with no good times between them."""
    was_ready: bool = False
    """True once it has served."""
    last_end: str | None = None


@dataclass(frozen=True, slots=True)
class StartOrder:
    """The order to start a process."""

    name: str


@dataclass(frozen=True, slots=True)
class EndOrder:
    """The order to end a process, and why."""

    name: str
    why: str


@dataclass(slots=True)
class Supervision:
    """All processes of a deployment. It says what is to be done; whoever does it reports what happens.

    Engines start first, so many at once as are allowed; the router when an engine of each role serves.
    """

    roles: Mapping[str, LaunchRole]
    """The processes by name, in the order in which they start."""
    starts_at_once: int
    start_limit_s: float
    """The time within which a process must serve."""
    back_off: BackOff = field(default_factory=BackOff)
    processes: dict[str, Supervised] = field(init=False)
    stopping: bool = False
    failed: str | None = None
    """The process that ended before it had served even once: nothing speaks for a second try."""

    def __post_init__(self) -> None:
        self.processes = {name: Supervised(name, role) for name, role in self.roles.items()}

    @property
    def all_ready(self) -> bool:
        """Tells whether every process serves."""
        return all(process.phase is ProcessPhase.READY for process in self.processes.values())

    def due(self, now: float) -> list[StartOrder | EndOrder]:
        """Returns what is to be done now. It is said again until `begun` or `ended` tells that it was done."""
        if self.stopping or self.failed:
            return []
        late = [
            EndOrder(process.name, f"it did not serve within {self.start_limit_s:g} s")
            for process in self.processes.values()
            if process.phase is ProcessPhase.STARTING and now - process.since > self.start_limit_s
        ]
        return [*late, *self._starts(now)]

    def _starts(self, now: float) -> list[StartOrder]:
        starting = sum(
            process.phase is ProcessPhase.STARTING and process.role != "router" for process in self.processes.values()
        )
        room = self.starts_at_once - starting
        orders = []
        for process in self.processes.values():
            if process.phase is not ProcessPhase.WAITING or now < process.start_at:
                continue
            if process.role == "router":
                if process.was_ready or self._has_engines():
                    orders.append(StartOrder(process.name))
            elif room > 0:
                room -= 1
                orders.append(StartOrder(process.name))
        return orders

    def _has_engines(self) -> bool:
        serving = {process.role for process in self.processes.values() if process.phase is ProcessPhase.READY}
        return serving >= set(ENGINE_ROLES)

    def rests_s(self, now: float) -> float | None:
        """Returns the time until a pause is over; None where there is none."""
        pauses = [
            process.start_at - now
            for process in self.processes.values()
            if process.phase is ProcessPhase.WAITING and process.start_at > now
        ]
        return min(pauses, default=None)

    # -- what has happened -----------------------------------------------------------------------------------------

    def begun(self, now: float, name: str) -> None:
        """The process was started."""
        process = self.processes[name]
        if process.last_end is not None:
            process.restarts += 1
        process.phase, process.since = ProcessPhase.STARTING, now

    def ready(self, now: float, name: str) -> None:
        """The process serves."""
        process = self.processes[name]
        if process.phase is ProcessPhase.STARTING:
            process.phase, process.since, process.was_ready = ProcessPhase.READY, now, True

    def ended(self, now: float, name: str, how: str) -> float:
        """The process has ended; `how` says it in a few words. Returns the pause before it is started again."""
        process = self.processes[name]
        if process.phase is ProcessPhase.READY and now - process.since >= self.back_off.healthy_s:
            process.ends = 0
        process.ends += 1
        pause_s = self.back_off.pause_s(process.ends)
        process.phase, process.since, process.start_at = ProcessPhase.WAITING, now, now + pause_s
        process.last_end = how
        if not process.was_ready and not self.stopping and self.failed is None:
            self.failed = name
        return pause_s

    def stop(self) -> None:
        """Nothing is started any more."""
        self.stopping = True
