"""Processor time of a process in which an engine and its lease agent run, second by second."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from kvlease.agent.loop import LeaseAgent
from proof.bench.churn.engines import Calls, LeasesStayed

WINDOW_S = 1.0
STEP_S = 0.01
"""The length of an engine's step, in which it grants, or takes on, what has come since the last one."""
WARM_UP_S = 1.5
"""The time that the figures leave out: a session is opened, connections are made."""
DRAIN_S = 20.0
"""The time within which all leases have to be over once no more are granted."""


@dataclass(frozen=True, slots=True)
class ChurnPlan:
    """The amount of churn: leases a second, the time for which they come, and the idle time afterwards."""

    rate: float
    busy_s: float
    idle_s: float


@dataclass(frozen=True, slots=True)
class MeterWindow:
    """The time that some churn took, in seconds: about a second of it, or all of it so far."""

    wall_s: float
    leases: int
    calls_s: float
    """Processor time of the engine's calls."""
    agent_s: float
    """Processor time of the agent's thread."""
    process_s: float
    """Processor time of the whole process."""

    def since(self, earlier: "MeterWindow") -> "MeterWindow":
        """The window between two readings of the meters, each of which is a window since they began."""
        return MeterWindow(
            self.wall_s - earlier.wall_s,
            self.leases - earlier.leases,
            self.calls_s - earlier.calls_s,
            self.agent_s - earlier.agent_s,
            self.process_s - earlier.process_s,
        )


@dataclass(frozen=True, slots=True)
class Side:
    """The figures of one of the two engines and its agent."""

    windows: list[MeterWindow]
    """The windows under load."""
    idle: list[MeterWindow]
    """The windows afterwards: the session is open, and nothing happens."""
    leases: int
    """Leases that were granted, kept and let go."""
    claims: int
    """Claims that reached the producer's lessor: a consumer that is through before its claim left sends a drop
    alone."""
    grown_kib: int
    """The resident memory that its process gained under load, from the end of the warm-up on."""
    own_process: bool
    """True where its process is not shared with the other side."""


class Meter:
    """Reads the clocks of an agent's thread and of this process."""

    def __init__(self, agent: LeaseAgent, calls: Calls) -> None:
        thread = agent.thread_id
        assert thread is not None, "the agent has to be started"
        self._clock = time.pthread_getcpuclockid(thread)
        self._agent = agent
        self._calls = calls
        self._last: MeterWindow | None = None
        self.windows: list[MeterWindow] = []

    @property
    def leases(self) -> int:
        """The number of leases that are over."""
        return self._calls.leases

    @property
    def claims(self) -> int:
        return self._agent.report().lessor.get("claims", 0)

    def look(self) -> None:
        """Close a window when one is over; the first call opens the first one."""
        if self._last is None:
            self._last = self._read()
        elif time.monotonic() - self._last.wall_s >= WINDOW_S:
            reading = self._read()
            self.windows.append(reading.since(self._last))
            self._last = reading

    def take(self) -> list[MeterWindow]:
        """The windows since the last call; the one that is not full is dropped."""
        windows, self.windows, self._last = self.windows, [], None
        return windows

    def _read(self) -> MeterWindow:
        return MeterWindow(
            time.monotonic(),
            self._calls.leases,
            self._calls.seconds,
            time.clock_gettime(self._clock),
            time.process_time(),
        )


def resident_kib() -> int:
    return int(psutil.Process().memory_info().rss) // 1024


class Pace:
    """An open loop: so many a second are due, whether or not the earlier ones are done."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._start = time.monotonic()
        self._done = 0

    def due(self) -> int:
        due = int((time.monotonic() - self._start) * self._rate) - self._done
        self._done += due
        return due


def churn(
    step: Callable[[bool], None], over: Callable[[], bool], meters: Sequence[Meter], plan: ChurnPlan
) -> list[Side]:
    """Plays load, then quiet; returns what each meter saw. `step` is told whether more may be granted, `over` tells
    whether none is left.

    Raises `LeasesStayed` when they are not over in the end.
    """
    _steps(WARM_UP_S, lambda: step(True))
    before = resident_kib()
    _watched(plan.busy_s, lambda: step(True), meters)
    grown = resident_kib() - before
    busy = [meter.take() for meter in meters]
    deadline = time.monotonic() + DRAIN_S
    while not over():
        if time.monotonic() > deadline:
            raise LeasesStayed(f"leases that were let go are not over {DRAIN_S:g} s later")
        _steps(STEP_S, lambda: step(False))
    counts = [(meter.leases, meter.claims) for meter in meters]
    _watched(plan.idle_s, lambda: step(False), meters)
    alone = len(meters) == 1
    return [
        Side(load, meter.take(), *count, grown, alone) for load, meter, count in zip(busy, meters, counts, strict=True)
    ]


def _watched(seconds: float, step: Callable[[], None], meters: Sequence[Meter]) -> None:
    def watched() -> None:
        step()
        for meter in meters:
            meter.look()

    # It goes on a little longer, so that the last window is a full one.
    _steps(seconds + 2 * STEP_S, watched)


def _steps(seconds: float, step: Callable[[], None]) -> None:
    """Calls `step` every `STEP_S` for so long."""
    at = time.monotonic()
    end = at + seconds
    while at < end:
        step()
        # A step that took too long is not followed by quicker ones: the next step does more instead.
        at = max(at + STEP_S, time.monotonic())
        time.sleep(max(0.0, at - time.monotonic()))
