"""The outcome of stops under traffic: plain data, from which the judge and the table take their figures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from proof.realengines.spec import Connector

Door = Literal["vllm", "listener"]
"""The door through which P is told to drain: vLLM's API server, or the agent's own listener."""

DOORS: Mapping[Door, str] = {"vllm": "vLLM's API server", "listener": "the agent's own listener"}

RequestFate = Literal["right", "wrong", "lost"]
"""`wrong`: an answer with other tokens than an undisturbed engine's. `lost`: no whole answer."""


@dataclass(frozen=True, kw_only=True)
class RequestEnd:
    """One request. Times are those of time.monotonic, in seconds."""

    fate: RequestFate
    began_at: float
    ended_at: float
    offered_at: float | None = None
    """The time at which P's offer came; None: P made none, and D computed the prompt."""
    read_at: float | None = None
    """The time of the first token, when P's blocks have been read; None: there was none."""
    late: bool = False
    """True: its router took its time between P and D."""
    said: str = ""
    """The reason why it is not right."""

    @property
    def let_go_at(self) -> float:
        """The time from which P's blocks are surely not needed any more."""
        return self.ended_at if self.read_at is None else self.read_at

    def out_at(self, when: float) -> bool:
        """Tells whether P's blocks waited for this request at that time."""
        return self.offered_at is not None and self.offered_at <= when < self.let_go_at


@dataclass(frozen=True, kw_only=True)
class StopOutcome:
    """One stop of P. Times are those of time.monotonic, in seconds."""

    door: Door | None
    """None: SIGTERM came at once."""
    began_at: float
    """The time at which the drain was asked for, or of the SIGTERM."""
    ended_at: float
    """The time of the SIGTERM."""
    gone_at: float
    """The time at which nothing of P was left."""
    left: int | None
    """The leases left, as the drain's answer has it."""
    clean: bool
    """True: nothing of P had to be killed."""

    @property
    def drain_s(self) -> float:
        """The seconds until the drain was answered."""
        return self.ended_at - self.began_at


@dataclass(frozen=True, kw_only=True)
class StopsRun:
    """All stops of one kind under one stretch of traffic."""

    connector: Connector
    drained: bool
    stops: Sequence[StopOutcome]
    requests: Sequence[RequestEnd]
    took_s: float = 0.0

    def count(self, fate: RequestFate) -> int:
        return sum(request.fate == fate for request in self.requests)

    @property
    def from_p(self) -> int:
        """The requests that D was sent with an offer of P's."""
        return sum(request.offered_at is not None for request in self.requests)

    def out(self, stop: StopOutcome) -> int:
        """The leases that waited for a request when the stop began, as their clients know."""
        return sum(request.out_at(stop.began_at) for request in self.requests)

    def left(self, stop: StopOutcome) -> int:
        """The leases that were left at the SIGTERM: by the drain's answer, or where there was none, as clients know."""
        return self.out(stop) if stop.left is None else stop.left

    def longest_read_s(self, stop: StopOutcome) -> float:
        """The seconds from the beginning of a stop until the last read of what P had offered by its end; 0 where there
        was nothing to read."""
        waited = [
            request.let_go_at - stop.began_at
            for request in self.requests
            if request.offered_at is not None and request.offered_at <= stop.ended_at
        ]
        return max([0.0, *waited])

    def excesses_s(self) -> Iterator[float]:
        """Yields the seconds by which each drain took longer than the longest read that it had to wait for."""
        for stop in self.stops:
            yield stop.drain_s - self.longest_read_s(stop)
