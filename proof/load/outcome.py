"""The findings as plain data, from which tables are made."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proof.bench.frame.figures import Spread


@dataclass(frozen=True, slots=True)
class Latencies:
    """The times of one way to the engines, in milliseconds, and beside those of no router."""

    name: str
    answers: int
    wrong: int
    """Answers that were not whole, or not right."""
    first_ms: tuple[float, float]
    """The time to the first token: median and 99th percentile."""
    whole_ms: tuple[float, float]
    """The time to the answer's end: median and 99th percentile."""
    cpu_ms: float | None = None
    """The router's processor time for an answer."""
    first_more_ms: Spread | None = None
    """The median's difference to no router, block by block."""
    whole_more_ms: Spread | None = None
    first_ratio: Spread | None = None
    """The median divided by that of no router, block by block."""
    whole_ratio: Spread | None = None


@dataclass(frozen=True, slots=True)
class OverheadRun:
    """The overhead at one number of requests at a time."""

    at_once: int
    tokens: int
    token_ms: float
    """The time that a token takes the engines."""
    blocks: int
    found: Sequence[Latencies]


@dataclass(frozen=True, slots=True)
class StreamsRun:
    """Many streams at once through one router."""

    name: str
    streams: int
    tokens: int
    token_ms: float
    died: bool
    """A decode engine was killed in the middle."""
    right: int
    whys: Mapping[str, int]
    """The reasons of those that were not right."""
    took_s: float
    first_ms: tuple[float, float]
    """The time to the first token, median and 99th percentile."""
    gap_ms: tuple[float, float]
    """Each stream's longest silence, median and 99th percentile."""
    router_cpu_s: float
    """The router's processor time."""
    router_mb: float
    """The router's memory at the end."""


@dataclass(frozen=True, slots=True)
class Growth:
    """The growth of memory: a slope, and its standard error, both in KiB a minute."""

    slope: float
    error: float

    @property
    def flat(self) -> bool:
        """True where the slope cannot be told from none, or is less than a MiB an hour."""
        return self.slope <= max(2 * self.error, 1024 / 60)


@dataclass(slots=True)
class SoakRun:
    """A long run with restarts."""

    minutes: float
    fates: Counter[str] = field(default_factory=Counter)
    """The answers: right, wrong, lost."""
    whys: Counter[str] = field(default_factory=Counter)
    """The reasons of those that are lost."""
    restarts: Counter[str] = field(default_factory=Counter)
    """The restarts, by the role of the engine."""
    leases: Counter[str] = field(default_factory=Counter)
    """The ends of leases, of all producers, those that were killed as well."""
    left: int = 0
    """The leases that were still out when the traffic had ended and all terms were over."""
    reads: Counter[str] = field(default_factory=Counter)
    """The decode engines' reads."""
    repeated: int = 0
    """The prompts that one producer computed more than once."""
    memory_kib: list[tuple[float, float]] = field(default_factory=list)
    """The router's memory: seconds since the beginning, KiB."""
    growth: Growth | None = None
    router_cpu: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stranded(self) -> int:
        """The leases that nobody read, and nobody released."""
        return self.leases["stranded"] + self.left

    @property
    def passed(self) -> bool:
        """True where nothing was wrong, nothing stranded, and the router's memory stayed as it was."""
        flat = self.growth is not None and self.growth.flat
        return not self.fates["wrong"] and not self.stranded and flat
