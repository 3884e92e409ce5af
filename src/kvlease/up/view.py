"""The table of all processes, and the lines about what happens to them. It needs the package rich."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from kvlease.console.tables import Cell, Table
from kvlease.top.cells import alarm, duration, memory, number, share
from kvlease.up.looks import Look
from kvlease.up.supervision import ProcessPhase, Supervised

HEADINGS = ("process", "state", "running", "waiting", "KV", "leases", "held", "sessions", "restarts", "since", "log")
WORDS = 2
"""The columns of words, at the left."""


@dataclass(frozen=True, slots=True)
class ProcessNow:
    """One process, as the table shows it."""

    supervised: Supervised
    look: Look | None
    """The last look; None before the first one since it was started."""
    log: Path


def state(process: ProcessNow) -> Cell:
    """Returns the cell of a process's state."""
    phase, look = process.supervised.phase, process.look
    if phase is ProcessPhase.WAITING:
        return Cell("down", "bad") if process.supervised.last_end else Cell("waiting")
    if phase is ProcessPhase.STARTING:
        return Cell("starting", "open")
    if look is not None and not look.answers:
        return Cell("silent", "bad")
    if look is not None and look.draining:
        return Cell("draining", "open")
    return Cell("up", "good")


def table(processes: Sequence[ProcessNow], now: float) -> Table:
    """Returns the table; `now` is the supervision's clock."""
    return Table(HEADINGS, [_line(process, now) for process in processes], caption=_below(processes, now), texts=WORDS)


def _line(process: ProcessNow, now: float) -> list[str | Cell]:
    supervised = process.supervised
    shown = process.look if supervised.phase is ProcessPhase.READY else None
    look = shown or Look(answers=False)
    return [
        supervised.name,
        state(process),
        number(look.running),
        number(look.waiting),
        share(look.kv_usage),
        number(look.leases),
        memory(look.held_bytes),
        number(look.sessions),
        alarm(supervised.restarts, "open"),
        duration(now - supervised.since),
        str(process.log),
    ]


def _below(processes: Sequence[ProcessNow], now: float) -> str:
    return "\n".join(line for process in processes for line in _remarks(process, now))


def _remarks(process: ProcessNow, now: float) -> list[str]:
    supervised, look = process.supervised, process.look
    if supervised.phase is ProcessPhase.WAITING and supervised.last_end:
        return [f"{supervised.name}: {supervised.last_end}; starts in {duration(supervised.start_at - now)}"]
    if supervised.phase is not ProcessPhase.READY or look is None:
        return []
    if not look.answers:
        return [f"{supervised.name}: {look.error}"]
    if supervised.role == "router" and look.requests is not None:
        figures = ("requests", look.requests), ("handed on", look.handed_on), ("second prefills", look.second_prefills)
        told = [f"{value:,} {name}" for name, value in (*figures, ("refused", look.refused)) if value is not None]
        return [f"router: {', '.join(told)}"]
    return []


class UpView:
    """What is seen of a run: lines, and below them the table where there is a terminal."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._began, self._quiet = time.monotonic(), quiet
        self._live: Live | None = None
        self._console = console

    def say(self, text: str, style: str = "") -> None:
        """Prints a line about what has happened."""
        if not self._quiet:
            self._print(text, style)

    def warn(self, text: str, style: str = "yellow") -> None:
        """Prints a line that is printed also where nothing else is wanted."""
        self._print(text, style)

    def _print(self, text: str, style: str) -> None:
        elapsed = Text(f"{time.monotonic() - self._began:6.1f} s  ", "dim")
        self._console.print(elapsed, Text(text, style=style), sep="")

    def lead(self, *lines: str) -> None:
        """Prints lines without a time, whatever is wanted: where requests go, and how to try it."""
        for line in lines:
            self._console.print(line)

    def show(self, processes: Sequence[ProcessNow], now: float, title: str) -> None:
        """Shows the table, on a terminal."""
        if self._quiet or not self._console.is_terminal:
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(Group(Text(title, style="bold"), table(processes, now).__rich__()), refresh=True)

    def close(self) -> None:
        """Leaves the table as it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None
