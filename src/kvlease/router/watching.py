"""The watch over all engines: each is looked at again and again, by itself, and the fleet hears what it says.

One that is slow holds up no other. One that has not answered is looked at again soon, since the fleet believes the
second such look. It needs the package aiohttp.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import aiohttp

from kvlease.router.engines import EngineReport, EngineRole
from kvlease.router.figures import RouterFigures
from kvlease.router.fleet import EngineFleet
from kvlease.router.looks import SILENCE, LeaseWord, NoLook, ask_leases, look_at
from kvlease.router.settings import RouterSettings

log = logging.getLogger(__name__)

AGAIN_S = 0.1
"""The pause after a first look without an answer."""
LEASES_EVERY_S = 2.0
"""The pause between two questions for an engine's leases, which it answers between two of its steps."""
UNSERVED_EVERY_S = 30.0
"""The same where it does not serve these routes, or has another key: it may be another engine by then."""
KEEP_S = 3.0
"""The time that an idle connection is kept: vLLM closes it after 5 s."""
TOLD_EVERY_S = 5.0
"""The shortest time between two lines in the log about the same engine."""
JITTER = 0.2
"""The part by which a pause is longer or shorter, at most: several routers must not ask all at the same moment."""


@dataclass(slots=True)
class SeenEngine:
    """One engine, as the watch knows it."""

    url: str
    role: EngineRole
    report: EngineReport | None = None
    """Its last word; None where the last look had no answer, or there was none yet."""
    why: str | None = "not looked at yet"
    """The reason for which it has no word."""
    since: float = 0.0
    """The moment since which it answers looks, or does not."""
    away: bool = False
    """The fleet holds it dead for that."""
    drains: bool = False
    """The fleet was told that it drains."""
    word: LeaseWord = SILENCE
    told_up: bool | None = None
    """The last line in the log about it said that it is up, or away."""
    told_at: float = float("-inf")


class FleetWatch:
    """The watch. `engines` are those that discovery names, by URL."""

    def __init__(
        self,
        fleet: EngineFleet,
        settings: RouterSettings,
        figures: RouterFigures,
        died: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        """`died` gets the URL of an engine that is found away, having been there before."""
        self.engines: dict[str, SeenEngine] = {}
        self._fleet = fleet
        self._settings = settings
        self._figures = figures
        self._died = died
        self._clock = clock
        self._chance = chance or random.Random()
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._http: aiohttp.ClientSession | None = None
        key = settings.engine_key
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def __aenter__(self) -> "FleetWatch":
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_S)
        # Nothing is unpacked: a page is read up to a bound, which a packed one would evade.
        self._http = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, headers={"Accept-Encoding": "identity"}
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.follow({})
        if self._http is not None:
            await self._http.close()

    def follow(self, roles: Mapping[str, str]) -> None:
        """Begins to watch engines that are new, each with its role by its URL, and lets go of those that are not named
        any more."""
        for url, engine in list(self.engines.items()):
            if roles.get(url) != engine.role:
                self._let_go(url)
        for url, role in roles.items():
            if url not in self.engines:
                self._begin(url, EngineRole(role))

    def _begin(self, url: str, role: EngineRole) -> None:
        now = self._clock()
        engine = self.engines[url] = SeenEngine(url, role, since=now)
        self._fleet.join(now, url, role)
        if self._http is not None:
            each = (self._look_on(engine, self._http), self._ask_on(engine, self._http))
            self._tasks[url] = [asyncio.create_task(task) for task in each]

    def _let_go(self, url: str) -> None:
        del self.engines[url]
        self._fleet.leave(url)
        for task in self._tasks.pop(url, ()):
            task.cancel()

    async def _look_on(self, engine: SeenEngine, http: aiohttp.ClientSession) -> None:
        while True:
            had_word = engine.report is not None
            await self.look(engine, http)
            lost = had_word and engine.report is None
            await asyncio.sleep(self._pause_s(AGAIN_S if lost else self._settings.watch_interval_s))

    async def _ask_on(self, engine: SeenEngine, http: aiohttp.ClientSession) -> None:
        # A task of its own: an engine in a long step answers late, and its health must not wait for that.
        while True:
            await self.ask(engine, http)
            await asyncio.sleep(self._pause_s(LEASES_EVERY_S if engine.word.served else UNSERVED_EVERY_S))

    def _pause_s(self, interval_s: float) -> float:
        return interval_s * self._chance.uniform(1 - JITTER, 1 + JITTER)

    async def look(self, engine: SeenEngine, http: aiohttp.ClientSession) -> None:
        """Looks at an engine once, and tells the fleet."""
        try:
            report = await look_at(http, engine.url, self._settings.watch_timeout_s, engine.word)
        except NoLook as error:
            self._figures.count("looks", engine.role, "failed")
            self._lost(engine, str(error))
            return
        self._figures.count("looks", engine.role, "ok")
        self._found(engine, report)

    async def ask(self, engine: SeenEngine, http: aiohttp.ClientSession) -> None:
        """Asks an engine for its leases once, and tells the fleet what is new."""
        try:
            word = await ask_leases(http, engine.url, self._settings.watch_timeout_s, self._headers)
        except NoLook:
            # The looks find out whether it is away. Until then its last word holds.
            return
        self.heard(engine, word)

    def heard(self, engine: SeenEngine, word: LeaseWord) -> None:
        """Takes an engine's word on its leases."""
        if word.grace_s is None and word.served:
            word = word._replace(grace_s=engine.word.grace_s)
        if word == engine.word:
            return
        engine.word = word
        if engine.report is not None:
            self._found(engine, replace(engine.report, draining=word.draining or None, grace_s=word.grace_s))

    def _found(self, engine: SeenEngine, report: EngineReport) -> None:
        now = self._clock()
        if engine.report is None:
            engine.why, engine.since = None, now
        # "No drain" is told once, where there was one: the fleet has other signs of a drain, which must not be undone.
        told = report if report.draining or not engine.drains else replace(report, draining=False)
        engine.report, engine.away, engine.drains = report, False, bool(report.draining)
        self._fleet.report(now, engine.url, told)
        if _is_to_tell(engine, now, up=True):
            log.info("%s engine %s is up%s", engine.role, engine.url, _kind(report))

    def _lost(self, engine: SeenEngine, why: str) -> None:
        now = self._clock()
        if engine.report is not None:
            engine.since = now
        # Whoever comes back may be another.
        engine.report, engine.word, engine.why = None, SILENCE, why
        if self._fleet.report(now, engine.url, EngineReport(healthy=False)):
            engine.away = True
            self._died(engine.url)
        if engine.away and _is_to_tell(engine, now, up=False):
            log.warning("%s engine %s is away: %s", engine.role, engine.url, why)


def _is_to_tell(engine: SeenEngine, now: float, up: bool) -> bool:
    """Notes that its state is told. Returns False where it was told already, or a moment ago: an engine that comes and
    goes must not fill the log."""
    if engine.told_up is up or now - engine.told_at < TOLD_EVERY_S:
        return False
    engine.told_up, engine.told_at = up, now
    return True


def _kind(report: EngineReport) -> str:
    if report.leased is None:
        return ""
    return ", with kvlease" if report.leased else ", with stock's connector: nothing is sent to it a second time"
