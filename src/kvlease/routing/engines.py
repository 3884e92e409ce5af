"""One engine as the router knows it: its last report, its calls, its breaker, and what follows for the next request."""

import enum
import math
from dataclasses import dataclass, field
from typing import NamedTuple

from kvlease.errors import ConfigError
from kvlease.routing.breaker import BreakerSettings, BreakerState, CircuitBreaker
from kvlease.routing.failures import EngineFailure


class EngineRole(enum.StrEnum):
    """The half of the work that an engine does."""

    PREFILL = "prefill"
    DECODE = "decode"


class EngineStanding(enum.IntEnum):
    """The reasons to ask one engine before another, the best first."""

    WELL = 0
    """It lives, and takes requests."""
    TRIED = 1
    """This request was there, and failed."""
    DRAINING = 2
    """It lives, and likely aborts or refuses what is new."""
    SHUT = 3
    """It is believed dead: by its breaker, or by its health."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """An engine's word on itself, from its `/health` and `/metrics`; sums, where it has several data-parallel ones."""

    healthy: bool = True
    """It has answered, and its health is good. A poll without an answer is a report too: `healthy=False`."""
    running: int = 0
    """The requests that it runs (`vllm:num_requests_running`)."""
    waiting: int = 0
    """The requests in its queue (`vllm:num_requests_waiting`)."""
    kv_usage: float = 0.0
    """The share of its KV cache that is in use, from 0 to 1 (`vllm:kv_cache_usage_perc`)."""
    draining: bool | None = None
    """It finishes what it has, and takes nothing new; None where that cannot be seen."""
    leased: bool | None = None
    """True for kvlease's connector, False for stock's; None where that cannot be seen."""
    grace_s: float | None = None
    """The grace of a lease whose reader died (`kv_lease_orphan_grace`), where it says so. Nothing depends on it: with a
    grace of 0 a dead reader's leases lapse at once, and a late claim is right as long as the blocks are intact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """The bounds of what is believed of engines. Raises `ConfigError` for impossible values."""

    stale_s: float = 5.0
    """The age from which a report's figures are not believed: the engine's load is then what the router itself has
    sent. It is not held dead for that: only a poll that failed says so. What it said of drain and connector stays,
    since neither changes without a restart."""
    missed_polls: int = 2
    """The failed polls in a row by which an engine is held dead. One is missed by an engine that is busy."""
    slow_start_s: float = 10.0
    """The time within which an engine that is new or back gets its full share: the least loaded one would get all
    requests at once, before its kernels and caches are warm."""
    breaker: BreakerSettings = field(default_factory=BreakerSettings)

    def __post_init__(self) -> None:
        if self.missed_polls < 1:
            raise ConfigError(f"missed_polls = {self.missed_polls}: allowed is a whole number of at least 1, e.g. 2")
        for name, value in (("stale_s", self.stale_s), ("slow_start_s", self.slow_start_s)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} = {value}: allowed is a finite number of seconds, e.g. 5")


class EngineView(NamedTuple):
    """An engine at a moment."""

    url: str
    role: EngineRole
    standing: EngineStanding
    in_flight: int
    """The calls of this router that are under way there."""
    load: float
    """The number by which the least loaded one is chosen."""
    breaker: BreakerState
    healthy: bool
    draining: bool
    left: bool
    """Discovery names it no more; it has calls still."""
    leased: bool | None
    report: EngineReport | None
    """Its last report, however old."""
    report_age_s: float | None


LEAST_SHARE = 0.1
"""The share of its requests that an engine gets when its slow start begins."""


class KnownEngine:
    """One engine. The fleet owns it."""

    def __init__(self, url: str, role: EngineRole, leased: bool | None, settings: FleetSettings, now: float) -> None:
        self.url = url
        self.role = role
        self.leased = leased
        self.left = False
        self.in_flight = 0
        self._settings = settings
        self._breaker = CircuitBreaker(settings.breaker)
        self._fresh_since = now
        self._report: EngineReport | None = None
        self._reported_at = -math.inf
        self._sent_before = 0
        """The calls that were under way when it reported: its figures have them."""
        self._missed = 0
        self._dead_since: float | None = None
        self._drains_until = -math.inf

    @property
    def shut_since(self) -> float:
        """The time since which it is shut; the earlier one, where breaker and health agree."""
        since = [each for each in (self._dead_since, self._breaker.opened_at) if each is not None]
        return min(since, default=math.inf)

    def standing(self, now: float) -> EngineStanding:
        """Returns how good it is for a request that has tried nothing yet."""
        if self._dead_since is not None or not self._breaker.lets(now):
            return EngineStanding.SHUT
        return EngineStanding.DRAINING if now < self._drains_until else EngineStanding.WELL

    def load(self, now: float) -> float:
        """Returns how much it has to do: requests, those in its queue twice, more where its cache is full.

        A report is the newest word on what others send; the router's own calls since then are added. An engine with
        nothing to do counts as one request, so that a full cache and a slow start tell even then.
        """
        requests, usage = float(self.in_flight), 0.0
        if self._report is not None and now - self._reported_at <= self._settings.stale_s:
            told = self._report.running + self._report.waiting
            requests = max(requests, float(told + self.in_flight - self._sent_before)) + self._report.waiting
            usage = min(1.0, max(0.0, self._report.kv_usage))
        return (requests + 1.0) * (1.0 + usage)

    def share(self, now: float) -> float:
        """Returns the share of its requests that it gets beside warm engines, up to 1."""
        passed_s = now - self._fresh_since
        if passed_s >= self._settings.slow_start_s:
            return 1.0
        return max(LEAST_SHARE, passed_s / self._settings.slow_start_s)

    def report(self, now: float, report: EngineReport) -> bool:
        """Takes its word on itself. Returns True where it is found dead by that, having been alive before."""
        if report.leased is not None:
            self.leased = report.leased
        if not report.healthy:
            self._missed += 1
            if self._missed < self._settings.missed_polls or self._dead_since is not None:
                return False
            self._dead_since = now
            return True
        self._missed = 0
        if self._dead_since is not None:
            self._dead_since = None
            self._breaker.hope()
            self._fresh_since = now
        self._report, self._reported_at, self._sent_before = report, now, self.in_flight
        if report.draining is not None:
            self._drains_until = math.inf if report.draining else -math.inf
        return False

    def rejoin(self, now: float, role: EngineRole, leased: bool | None) -> None:
        """Is used again, in this role, before its last call was over: it may be another process by now."""
        self.role, self.leased, self.left = role, leased, False
        self._fresh_since = now
        self._report, self._missed, self._dead_since = None, 0, None
        self._drains_until = -math.inf
        self._breaker.hope()

    def begun(self) -> bool:
        """Notes a call. Returns True where it is the trial of the breaker."""
        self.in_flight += 1
        return self._breaker.begun()

    def answered(self, now: float) -> None:
        """Notes that it has begun to answer."""
        if self._breaker.state is not BreakerState.CLOSED:
            self._fresh_since = now
        self._breaker.answered()

    def ended(self, now: float, failure: EngineFailure | None, trial: bool) -> None:
        """Notes the end of a call, and how it failed; None for an answer."""
        self._one_less()
        if failure is None:
            self.answered(now)
            return
        if failure is EngineFailure.ABORTED:
            # It drains, which its report will say soon; it may also be that an operator has aborted its requests.
            self._drains_until = max(self._drains_until, now + self._settings.stale_s)
        was = self._breaker.state
        self._breaker.failed(now, failure, trial)
        if was is not BreakerState.CLOSED and self._breaker.state is BreakerState.CLOSED:
            self._fresh_since = now

    def abandoned(self, trial: bool) -> None:
        """Notes the end of a call of which nobody waited for the end."""
        self._one_less()
        self._breaker.abandoned(trial)

    def view(self, now: float) -> EngineView:
        """Returns all that is known of it."""
        return EngineView(
            url=self.url,
            role=self.role,
            standing=self.standing(now),
            in_flight=self.in_flight,
            load=self.load(now),
            breaker=self._breaker.state,
            healthy=self._dead_since is None,
            draining=now < self._drains_until,
            left=self.left,
            leased=self.leased,
            report=self._report,
            report_age_s=None if self._report is None else now - self._reported_at,
        )

    def _one_less(self) -> None:
        assert self.in_flight > 0, f"{self.url}: a call ended that had not begun"
        self.in_flight -= 1
