"""Runs a deployment: starts what the supervision orders, tells it what happens, and ends everything in the end."""

import asyncio
import contextlib
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kvlease.admin.settings import TOKEN_VARIABLE
from kvlease.console.exits import Exit
from kvlease.up.children import Child, ReaperProcess
from kvlease.up.drain import drain
from kvlease.up.last_words import last_words
from kvlease.up.looks import Look, look_at, open_local, serves
from kvlease.up.plan import Deployment
from kvlease.up.reaper import Charge
from kvlease.up.schedule import BackOff
from kvlease.up.supervision import EndOrder, ProcessPhase, StartOrder, Supervision
from kvlease.up.view import ProcessNow, UpView

if TYPE_CHECKING:
    import httpx

TURN_S = 0.25
"""The longest time between two looks at processes and at what is due; the end of a process is noticed at once."""
READY_EVERY_S = 0.2
"""The time between two questions whether a process serves yet."""
LOOK_EVERY_S = 1.0
SHOW_EVERY_S = 0.5
TIMEOUT_S = 5.0
MARGIN_S = 5.0
"""The time for the router to end once those of its requests have passed."""
PROMPT = "It was a dark and stormy night; the rain fell in torrents"
"""The prompt of the request to try: longer than a block of the tiny model, so that there is something to lease."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The ways in which processes are kept running, and ended."""

    logs: Path
    start_limit_s: float = 1800.0
    """The time within which an engine must serve: it may have to fetch its model first."""
    drain_s: float = 30.0
    """The time for requests that run, and for leases that are out, when everything is to end."""
    end_s: float = 20.0
    """The time for a process to end by itself."""
    back_off: BackOff = field(default_factory=BackOff)


class UpRun:
    """One run, from the first start to the last end."""

    def __init__(
        self, decided: Deployment, settings: RunSettings, view: UpView, environment: Mapping[str, str]
    ) -> None:
        """`environment`: what all processes have beside their own."""
        self._decided, self._settings, self._view, self._environment = decided, settings, view, environment
        roles = {launch.name: launch.role for launch in decided.launches}
        self.supervision = Supervision(roles, decided.starts_at_once, settings.start_limit_s, settings.back_off)
        self._looks: dict[str, Look] = {}
        self.children: dict[str, Child] = {}
        self.announced = False
        """True once all have served, and it was told."""
        self._woken = asyncio.Event()
        self._ending = False
        self._at_once = False
        self._shown_at = 0.0

    async def run(self) -> Exit:
        """Runs until somebody ends it, or until a process does not come up. Nothing is left when it returns."""
        self._settings.logs.mkdir(parents=True, exist_ok=True)
        reaper = ReaperProcess(self._log("reaper"))
        reaper.tell(Charge(scratch=str(self._decided.scratch)))
        for launch in self._decided.launches:
            scratch = self._decided.scratch / launch.name
            self.children[launch.name] = Child(launch, self._log(launch.name), scratch, reaper)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._woken.set)
        for number in SIGNALS:
            loop.add_signal_handler(number, self._end, number)
        try:
            async with open_local(self._environment.get(TOKEN_VARIABLE), TIMEOUT_S) as http:
                watchers = [asyncio.create_task(self._watch(launch.name, http)) for launch in self._decided.launches]
                try:
                    await self._keep(reaper)
                finally:
                    for watcher in watchers:
                        watcher.cancel()
                    await asyncio.gather(*watchers, return_exceptions=True)
            if self.supervision.failed is None:
                await self._stop()
            else:
                self._tell_failure(self.supervision.failed)
        finally:
            await self._end_the_rest()
            self._view.close()
            await asyncio.to_thread(reaper.close)
            shutil.rmtree(self._decided.scratch, ignore_errors=True)
        return self._exit()

    def _log(self, name: str) -> Path:
        return self._settings.logs / f"{name}.log"

    def _end(self, number: signal.Signals) -> None:
        """The first signal ends everything politely, the second one at once."""
        self._woken.set()
        if not self._ending:
            self._ending = True
            self.supervision.stop()
            self._view.say(f"{signal.Signals(number).name}: ending; once more ends all at once")
            return
        self._at_once = True
        for child in self.children.values():
            child.kill()

    def _exit(self) -> Exit:
        self._view.say("all has ended, and nothing is left running")
        if self.supervision.failed is not None:
            return Exit.NOT_DONE
        return Exit.INTERRUPTED if self._at_once else Exit.OK

    def _tell_failure(self, name: str) -> None:
        how = self.supervision.processes[name].last_end
        self._view.warn(f"{name} did not come up ({how}); {last_words(self._log(name))}", "bold red")

    # -- keeping it running ----------------------------------------------------------------------------------------

    async def _keep(self, reaper: ReaperProcess) -> None:
        while not self._ending and self.supervision.failed is None:
            self._woken.clear()
            reaper.keep_alive()
            await self._notice_ends()
            self._do_what_is_due()
            self._tell_ready()
            self._show()
            await self._sleep()

    async def _sleep(self) -> None:
        """Waits until something has happened, or may be due."""
        rests_s = self.supervision.rests_s(time.monotonic())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), TURN_S if rests_s is None else min(rests_s, TURN_S))

    async def _notice_ends(self) -> None:
        for name, child in self.children.items():
            status = child.status()
            if status is None:
                continue
            how = _said(status)
            # What its first process has left would keep its ports and its device.
            await asyncio.to_thread(child.bury)
            self._looks.pop(name, None)
            pause_s = self.supervision.ended(time.monotonic(), name, how)
            if self.supervision.failed is None and not self.supervision.stopping:
                self._view.warn(f"{name} has ended ({how}) and starts again in {pause_s:g} s; log: {child.log_path}")

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        for order in self.supervision.due(now):
            child = self.children[order.name]
            match order:
                case StartOrder(name):
                    child.start(self._environment)
                    self.supervision.begun(now, name)
                    self._view.say(f"{name} starts; log: {child.log_path}")
                case EndOrder(name, why):
                    self._view.warn(f"{name} is killed: {why}")
                    child.kill()

    async def _watch(self, name: str, http: "httpx.AsyncClient") -> None:
        """Asks one process again and again: whether it serves, and then for its figures."""
        child, process = self.children[name], self.supervision.processes[name]
        while True:
            if process.phase is ProcessPhase.STARTING and await serves(child.launch, http):
                # It may have ended while it was asked.
                if child.status() is None and process.phase is ProcessPhase.STARTING:
                    self.supervision.ready(time.monotonic(), name)
                    self._woken.set()
                    await asyncio.to_thread(child.note_memory)
            elif process.phase is ProcessPhase.READY:
                look = await look_at(child.launch, http)
                if process.phase is ProcessPhase.READY:
                    self._looks[name] = look
            await asyncio.sleep(LOOK_EVERY_S if process.phase is ProcessPhase.READY else READY_EVERY_S)

    def _tell_ready(self) -> None:
        if self.announced or not self.supervision.all_ready:
            return
        self.announced = True
        url, model = self._decided.router.url, self._decided.model
        self._view.say(f"all serve: {url}/v1, model {model}", "bold green")
        self._view.lead(
            f"  curl {url}/v1/completions -H 'Content-Type: application/json' \\",
            f'    -d \'{{"model": "{model}", "prompt": "{PROMPT}", "max_tokens": 16}}\'',
            f"  kvlease top {' '.join(launch.url for launch in self._decided.engines)}",
        )

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown_at < SHOW_EVERY_S:
            return
        self._shown_at = now
        lines = [
            ProcessNow(process, self._looks.get(name), self._log(name), now)
            for name, process in self.supervision.processes.items()
        ]
        self._view.show(lines, f"kvlease up: {self._decided.router.url}/v1, Ctrl-C ends all")

    # -- ending it -------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        """Ends the router when its requests are answered, then the engines when their leases are read."""
        ready = {name for name, each in self.supervision.processes.items() if each.phase is ProcessPhase.READY}
        # Whoever has not served has nothing to finish.
        for name, child in self.children.items():
            if name not in ready:
                child.kill()
        router = self.children[self._decided.router.name]
        router.signal(signal.SIGTERM)
        await self._wait_for([router], self._settings.drain_s + MARGIN_S)
        if not self._at_once:
            await self._drain(ready)
        engines = [self.children[launch.name] for launch in self._decided.engines]
        for child in engines:
            child.signal(signal.SIGTERM)
        await self._wait_for(engines, self._settings.end_s)

    async def _wait_for(self, children: list[Child], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while not self._at_once and time.monotonic() < deadline:
            # A process that leaves others behind is not waited for: they are killed.
            if all(child.group is None or child.status() is not None for child in children):
                return
            self._woken.clear()
            await self._sleep()

    async def _drain(self, ready: set[str]) -> None:
        token = self._environment.get(TOKEN_VARIABLE)
        drained = [
            asyncio.to_thread(drain, launch.listener, self._settings.drain_s, token)
            for launch in self._decided.engines
            if launch.role == "prefill" and launch.listener and launch.name in ready
        ]
        for end in await asyncio.gather(*drained):
            if end.left != 0:
                self._view.warn(end.said)

    async def _end_the_rest(self) -> None:
        for child in self.children.values():
            child.kill()
        await asyncio.gather(*(asyncio.to_thread(child.bury) for child in self.children.values()))


def _said(status: int) -> str:
    """The end of a process in a few words."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit {status}"
