"""The outcome of a scenario: plain data, from which the table, the plot and the report are made."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from kvlease.metrics.scraped import Metrics
from proof.realengines.metrics import FENCE_CHECKS, LEASE_ENDS, STOCK_EXPIRED, STOCK_READS
from proof.realengines.spec import Connector

if TYPE_CHECKING:
    # At runtime it would need httpx, and the command must be able to say that the demo's libraries are missing.
    from proof.realengines.router import Answer

ScenarioName = Literal["stall", "stall-free", "long-step", "queue", "failover", "crash"]

# This is the order in which they are played: the failover leaves one D of two, and the crash none.
SCENARIOS: tuple[ScenarioName, ...] = ("stall", "stall-free", "long-step", "queue", "failover", "crash")

LOST_CAUSES = ("expired", "orphaned", "aged_out")
"""The ends of a lease, by cause, that free blocks which their consumer had not read yet."""

_OK = 200


@dataclass(frozen=True)
class Answers:
    """Answers compared with the right ones. `wrong`: HTTP 200 and other tokens; `failed`: any other status."""

    right: int
    wrong: int
    failed: int
    statuses: Mapping[int, int]

    @property
    def total(self) -> int:
        """The number of answers."""
        return self.right + self.wrong + self.failed


@dataclass(frozen=True)
class Event:
    """Something that happened, `at_s` seconds after the fault. `decides`: D begins to read what P has then."""

    at_s: float
    what: str
    decides: bool = False


HeldSeries = Sequence[tuple[float, int]]
"""The blocks in use on P over time, in seconds after the fault."""


@dataclass(frozen=True)
class Counts:
    """The engines' counters. `leases_lost` were ended by P although their consumer had not read the blocks yet; `read`
    are the prefills that D took from P: with kvlease those whose fence was intact, with stock all that it read."""

    leases_lost: int = 0
    read: int = 0
    fence_checks: Mapping[str, int] = field(default_factory=dict)
    lease_ends: Mapping[str, int] = field(default_factory=dict)

    def since(self, earlier: "Counts") -> "Counts":
        """Returns what was added after an earlier reading of the same engines."""
        return Counts(
            self.leases_lost - earlier.leases_lost,
            self.read - earlier.read,
            _added(self.fence_checks, earlier.fence_checks),
            _added(self.lease_ends, earlier.lease_ends),
        )


@dataclass(frozen=True)
class ActOutcome:
    """One scenario with one connector. What it does not measure is None or empty.

    `freed_after_s` is the time from the crash until P's blocks were free; `again`, the prompts that P has computed more
    than once.
    """

    scenario: ScenarioName
    connector: Connector
    lease_s: float
    answers: Answers | None = None
    counts: Counts | None = None
    freed_after_s: float | None = None
    again: int | None = None
    held: HeldSeries = ()
    events: Sequence[Event] = ()
    took_s: float = 0.0


def tally(answers: "Sequence[Answer]", right: Sequence[tuple[int, ...]]) -> Answers:
    """Compares answers with the right ones, token by token, in order. Raises ValueError if they are not as many."""
    pairs = list(zip(answers, right, strict=True))
    answered = [(answer.token_ids, expected) for answer, expected in pairs if answer.status == _OK]
    correct = sum(given == expected for given, expected in answered)
    return Answers(
        right=correct,
        wrong=len(answered) - correct,
        failed=len(pairs) - len(answered),
        statuses=dict(Counter(answer.status for answer in answers)),
    )


def read_counts(connector: Connector, producer: Metrics, decoder: Metrics) -> Counts:
    """Reads what both engines have counted since they started."""
    if connector == "stock":
        return Counts(leases_lost=round(producer.value(STOCK_EXPIRED)), read=round(decoder.value(STOCK_READS)))
    checks = _whole(decoder.by_label(FENCE_CHECKS, "verdict"))
    return Counts(
        leases_lost=round(sum(producer.value(LEASE_ENDS, cause=cause) for cause in LOST_CAUSES)),
        read=checks.get("intact", 0),
        fence_checks=checks,
        lease_ends=_whole(producer.by_label(LEASE_ENDS, "cause")),
    )


def _whole(counters: Mapping[str, float]) -> dict[str, int]:
    return {name: round(value) for name, value in counters.items()}


def _added(now: Mapping[str, int], earlier: Mapping[str, int]) -> dict[str, int]:
    return {name: value - earlier.get(name, 0) for name, value in now.items() if value != earlier.get(name, 0)}
