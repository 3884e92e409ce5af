"""The circuit breaker of one engine: whether it is worth asking, from what became of the last calls (`BREAKER`).

A row of failures opens it, if at least one of them is more than an `ERROR`: vLLM answers some mistakes of clients with
500, and one client could shut all engines with them (vllm-project/router 148). An answer of any other kind, a 4xx
included, ends the row. An open one lets one call through after a while, its trial.
"""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

from kvlease.errors import ConfigError, ImpossibleEvent
from kvlease.routing.failures import FAILURES, EngineFailure


class BreakerState(enum.StrEnum):
    """The states of an engine's breaker."""

    CLOSED = "closed"
    """The engine is asked."""
    OPEN = "open"
    """It is not, until its time is over; then one call may try."""
    TRYING = "trying"
    """The trial is under way, and no other call is sent."""


class BreakerEvent(enum.StrEnum):
    """The events of a breaker."""

    ANSWER = "answer"
    """The engine has answered a call, whichever one."""
    FAIL = "fail"
    """A call has failed that does not decide: the row is too short, or the breaker is open and the call is an older
    one."""
    TRIP = "trip"
    """The row of failures is long enough; or the trial has failed."""
    TRY = "try"
    """A call is sent although it is open."""
    ABANDON = "abandon"
    """The trial has ended without a word of the engine: the client left."""


BREAKER: Mapping[tuple[BreakerState, BreakerEvent], BreakerState] = {
    (BreakerState.CLOSED, BreakerEvent.ANSWER): BreakerState.CLOSED,
    (BreakerState.CLOSED, BreakerEvent.FAIL): BreakerState.CLOSED,
    (BreakerState.CLOSED, BreakerEvent.TRIP): BreakerState.OPEN,
    (BreakerState.OPEN, BreakerEvent.ANSWER): BreakerState.CLOSED,
    (BreakerState.OPEN, BreakerEvent.FAIL): BreakerState.OPEN,
    (BreakerState.OPEN, BreakerEvent.TRY): BreakerState.TRYING,
    (BreakerState.TRYING, BreakerEvent.ANSWER): BreakerState.CLOSED,
    (BreakerState.TRYING, BreakerEvent.FAIL): BreakerState.TRYING,
    (BreakerState.TRYING, BreakerEvent.TRIP): BreakerState.OPEN,
    (BreakerState.TRYING, BreakerEvent.ABANDON): BreakerState.OPEN,
}
"""The next state of a breaker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """The bounds of a breaker. Raises `ConfigError` for impossible values."""

    failures: int = 3
    """The failures in a row that open it."""
    open_s: float = 1.0
    """The time for which it is open at first. It doubles with each trial that fails."""
    open_max_s: float = 30.0
    """The longest time for which it is open."""

    def __post_init__(self) -> None:
        if self.failures < 1:
            raise ConfigError(f"failures = {self.failures}: allowed is a whole number of at least 1, e.g. 3")
        if not 0 < self.open_s <= self.open_max_s < math.inf:
            raise ConfigError(
                f"open_s = {self.open_s}, open_max_s = {self.open_max_s}: allowed are finite numbers above 0, "
                "the second at least as much as the first, e.g. 1 and 30"
            )


class CircuitBreaker:
    """The breaker of one engine. Attribute `state`: for reading only."""

    def __init__(self, settings: BreakerSettings) -> None:
        self.state = BreakerState.CLOSED
        self._settings = settings
        self._row = 0
        self._opening = False
        """True where the row has a failure that opens."""
        self._open_s = settings.open_s
        self._until = -math.inf
        self._opened_at: float | None = None

    @property
    def opened_at(self) -> float | None:
        """The time at which it opened, before all trials; None while it is closed."""
        return self._opened_at

    def lets(self, now: float) -> bool:
        """Returns True where the engine may be asked."""
        return self.state is BreakerState.CLOSED or (self.state is BreakerState.OPEN and now >= self._until)

    def begun(self) -> bool:
        """Notes a call. Returns True where it is the trial."""
        if self.state is not BreakerState.OPEN:
            return False
        self._happen(BreakerEvent.TRY)
        return True

    def answered(self) -> None:
        """Notes an answer: the engine lives."""
        self._row, self._opening = 0, False
        self._open_s = self._settings.open_s
        self._opened_at = None
        self._happen(BreakerEvent.ANSWER)

    def failed(self, now: float, failure: EngineFailure, trial: bool) -> None:
        """Notes a failure. One that does not count for a breaker is an answer: the engine lives."""
        rule = FAILURES[failure]
        if not rule.breaker or (trial and not rule.opens):
            # A trial's 500 comes from an engine that lives: it must not keep the breaker open by itself either.
            self.answered()
            return
        if self.state is BreakerState.CLOSED:
            self._row += 1
            self._opening = self._opening or rule.opens
            if self._row >= self._settings.failures and self._opening:
                self._opened_at = now
                self._open(now)
                return
        elif trial and self.state is BreakerState.TRYING:
            self._open_s = min(self._settings.open_max_s, self._open_s * 2)
            self._open(now)
            return
        self._happen(BreakerEvent.FAIL)

    def abandoned(self, trial: bool) -> None:
        """Notes a call that ended without a word of the engine. If it was the trial, the next call is one."""
        if trial and self.state is BreakerState.TRYING:
            self._happen(BreakerEvent.ABANDON)

    def hope(self) -> None:
        """Lets the next call try at once: the engine's health is good again."""
        self._until = -math.inf
        self._open_s = self._settings.open_s

    def _open(self, now: float) -> None:
        self._row, self._opening = 0, False
        self._until = now + self._open_s
        self._happen(BreakerEvent.TRIP)

    def _happen(self, event: BreakerEvent) -> None:
        try:
            self.state = BREAKER[self.state, event]
        except KeyError:
            raise ImpossibleEvent(
                f"{event} cannot happen to a breaker that is {self.state}: no row of BREAKER"
            ) from None
