"""Asks one URL again and again, and remembers what its engines were like."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from kvlease.admin.answers import Health, LeaseEntry, Sessions
from kvlease.admin.client import AdminClient, Declined, Unanswered
from kvlease.metrics.scraped import Metrics
from kvlease.top.counting import Tally
from kvlease.top.document import EngineNow, total
from kvlease.top.figures import READ, engines_now

REMEMBERED = 240
"""The number of readings of which the held memory is remembered."""
MOST_LEASES = 500
"""The most leases of one state that one URL is asked for."""
ASK_AGAIN_S = 30.0
"""The time after which routes that were not there are asked for again."""
NO_ROUTES = "leases and sessions are not served: /metrics alone"
FORBIDDEN = "leases and sessions need --api-key"
NO_PAGE = "its /metrics is no page of metrics"
NOT_OURS = "it has no kvlease: metrics: no engine with LeasedNixlConnector, or statistics are off"


@dataclass
class Past:
    """The readings of one engine so far."""

    held: "deque[float | None]" = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """Bytes held; None where it did not answer."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    restarted_at: float | None = None

    def tally(self, name: str) -> Tally:
        """Returns the tally of a counter, by name."""
        return self.tallies.setdefault(name, Tally())


class Watched:
    """One URL, and the engines behind it."""

    def __init__(
        self,
        client: AdminClient,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.url = client.url
        self.engines: list[EngineNow] = []
        """The engines as they were when they last answered; without an answer so far, one that says why."""
        self.leases: list[LeaseEntry] = []
        """The leases that hold memory; lapsed ones, of which there are as many as fit, are not asked for."""
        self.leases_total = 0
        self.sessions: Sessions | None = None
        self.pasts: dict[int, Past] = {}
        """The past of each rank."""
        self._client, self._clock, self._wall_clock = client, clock, wall_clock
        self._ask_at = 0.0
        self._note: str | None = None
        self._since: float | None = None

    async def poll(self) -> None:
        """Asks once. It raises nothing: an engine that does not answer is one more thing to show."""
        page, health = await asyncio.gather(self._page(), self._routes())
        if isinstance(page, str) and health is None:
            self._lost(page)
            return
        try:
            found = engines_now(self.url, page if isinstance(page, Metrics) else Metrics(()), health, self._note)
        except (ValueError, OverflowError):
            # It has NaN, or something infinite, where a number of things belongs.
            self._lost(NO_PAGE)
            return
        if not found:
            self._lost(NOT_OURS)
            return
        self._since = None
        self.engines = found
        for engine in found:
            self._remember(engine)

    async def _page(self) -> Metrics | str:
        """Returns the page, or the reason why there is none."""
        try:
            return Metrics.parse(await self._client.metrics_page(), READ)
        except Declined as error:
            return f"{error}; give --api-key" if error.is_forbidden else str(error)
        except Unanswered as error:
            return str(error)
        except ValueError:
            return NO_PAGE

    async def _routes(self) -> Health | None:
        """Asks the routes: the health is returned, and leases and sessions are kept."""
        now = self._clock()
        if now < self._ask_at:
            return None
        try:
            health, granted, claimed, self.sessions = await asyncio.gather(
                self._client.health(),
                self._client.leases(MOST_LEASES, state="granted"),
                self._client.leases(MOST_LEASES, state="claimed"),
                self._client.sessions(),
            )
        except (Declined, Unanswered) as error:
            self.leases, self.leases_total, self.sessions = [], 0, None
            self._note = _why(error)
            if isinstance(error, Declined):
                self._ask_at = now + ASK_AGAIN_S
            return None
        self.leases = [*granted.leases, *claimed.leases]
        self.leases_total = granted.total + claimed.total
        self._note = None
        return health

    def _lost(self, why: str) -> None:
        if self._since is None:
            self._since = self._wall_clock()
        before = self.engines or [EngineNow(url=self.url, answers=False)]
        self.engines = [
            msgspec.structs.replace(engine, answers=False, error=why, since=self._since, admin=False)
            for engine in before
        ]
        # Whoever comes back may be another, with routes.
        self._ask_at = 0.0
        for past in self.pasts.values():
            past.held.append(None)

    def _remember(self, engine: EngineNow) -> None:
        now, past = self._clock(), self.pasts.setdefault(engine.rank, Past())
        past.held.append(engine.held_bytes)
        counters = {
            "grants": engine.grants,
            "ends": total(engine.lease_ends),
            "late": None if engine.fence_checks is None else engine.fence_checks.get("revoked", 0),
            "wasted": total(engine.wasted_prefill_tokens),
        }
        anew = [past.tally(name).read(now, value) for name, value in counters.items() if value is not None]
        if any(anew):
            past.restarted_at = now


def _why(error: Declined | Unanswered) -> str:
    if isinstance(error, Declined) and error.is_missing:
        return NO_ROUTES
    if isinstance(error, Declined) and error.is_forbidden:
        return FORBIDDEN
    return f"leases and sessions: {error}"
