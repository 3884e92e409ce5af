"""The outcome of a run: plain data, from which the judgement, the table and chaos.json are made."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from proof.chaos.schedule import Request, Round, Schedule
from proof.realengines.spec import Connector

Verdict = Literal["right", "wrong", "error", "gave-up", "aborted"]
"""`wrong`: HTTP 200 and other tokens. `error`: it says so, by a status or a broken connection. `gave-up`: no answer
within the client's patience. `aborted`: as the client wished."""
VERDICTS: tuple[Verdict, ...] = ("right", "wrong", "error", "gave-up", "aborted")
SAVED = "late_claims in_time"
"""One of a run's counts: late reads for which the prefill was there still, so that nobody computed it again."""
AGENTS_DOWN = "lease agents that died"
"""One of a run's counts: of engines that had done something, those whose agent was dead when they were ended."""
_WORST_FIRST: tuple[Verdict, ...] = ("wrong", "gave-up", "error", "right", "aborted")


@dataclass(frozen=True)
class Answered:
    """One engine's answer to one request, or its lack. Times are seconds since the beginning of the run."""

    engine: str
    verdict: Verdict
    began_s: float
    ended_s: float
    said: str = ""
    """The status and what else an error says."""


@dataclass(frozen=True)
class RequestOutcome:
    """The answers that a client got. Where a router tried again, only the last answer of each try counts."""

    request: Request
    answers: Sequence[Answered]
    retries: int = 0

    @property
    def verdict(self) -> Verdict:
        """The verdict of the worst answer: a client that sends a reference twice may get two."""
        verdicts = {answer.verdict for answer in self.answers}
        return next((verdict for verdict in _WORST_FIRST if verdict in verdicts), "aborted")

    @property
    def ended_s(self) -> float:
        return max((answer.ended_s for answer in self.answers), default=0.0)


@dataclass(frozen=True, kw_only=True)
class RoundOutcome:
    """One fault and what it did.

    `began_s` and `ended_s` are the fault's own times, since the beginning of the run. `free_s` is the time from when
    nobody wanted a block of P any more until all were free; None: they never were. `stranded` is the number of blocks
    that were held after `bound_s`. `died` are engines that nobody had killed.
    """

    round: Round
    began_s: float
    ended_s: float
    free_s: float | None
    bound_s: float
    stranded: int = 0
    died: Sequence[str] = ()
    requests: Sequence[RequestOutcome] = ()
    fills: Sequence[Answered] = ()
    """The answers that P computed by itself, to use its free blocks before a late reader came."""


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """The things that there still were when all was over, by name; and the engines that did not end on SIGTERM."""

    gauges: Mapping[str, float] = field(default_factory=dict)
    processes: Sequence[str] = ()
    shared_memory: Sequence[str] = ()
    namespaces: Sequence[str] = ()
    killed: Sequence[str] = ()

    def names(self) -> list[str]:
        """Describes all of them."""
        gauges = [f"{name} {value:g}" for name, value in self.gauges.items() if value]
        killed = [f"{name} (did not end on SIGTERM)" for name in self.killed]
        return [*gauges, *self.processes, *self.shared_memory, *self.namespaces, *killed]


@dataclass(frozen=True, kw_only=True)
class Run:
    """The outcome of the whole schedule with one connector."""

    connector: Connector
    schedule: Schedule
    rounds: Sequence[RoundOutcome]
    memory: str = "full"
    """The amount of P's memory that is in use (`schedule.MEMORY`)."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """The engines' counters, over all their lives, as far as they were read before each end."""
    leftovers: Leftovers = field(default_factory=Leftovers)
    took_s: float = 0.0

    def requests(self) -> list[RequestOutcome]:
        return [request for outcome in self.rounds for request in outcome.requests]

    @property
    def saved(self) -> int:
        """The number of late reads that found what they came for, although their lease was over."""
        return self.counts.get(SAVED, 0)

    def verdicts(self) -> Counter[str]:
        """The number of requests by verdict."""
        return Counter(request.verdict for request in self.requests())
