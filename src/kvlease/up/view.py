"""The table of all processes, and the lines about what happens to them. It needs the package rich."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from kvlease.console.tables import Cell, Table
from kvlease.top.cells import alarm, duration, memory, number, share
from kvlease.top.headings import Heading, fitting
from kvlease.up.looks import Look
from kvlease.up.supervision import ProcessPhase, Supervised


@dataclass(frozen=True, slots=True)
class ProcessNow:
    """One process, as the table shows it."""

    supervised: Supervised
    look: Look | None
    """The last look; None before the first one since it was started."""
    log: Path
    now: float
    """The supervision's clock."""

    @property
    def told(self) -> Look:
        """The last look, if the process serves; else one that knows nothing."""
        serves = self.supervised.phase is ProcessPhase.READY
        return self.look if serves and self.look is not None else Look(answers=False)


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


def since(process: ProcessNow) -> Cell:
    """Returns the cell of the time in its state; to one that was never started nothing has happened yet."""
    supervised = process.supervised
    if supervised.phase is ProcessPhase.WAITING and supervised.last_end is None:
        return number(None)
    return Cell(duration(process.now - supervised.since))


def _column(
    label: str,
    meaning: str,
    cell: Callable[[ProcessNow], Cell],
    width: int,
    drop: int = 0,
    *,
    words: bool = False,
    most: int = 0,
) -> Heading[ProcessNow]:
    return Heading(label, label, meaning, lambda line, _: cell(line), lambda _: None, width, words, drop, most)


PROCESSES: tuple[Heading[ProcessNow], ...] = (
    _column("process", "its name, which its log has", lambda line: Cell(line.supervised.name), 10, words=True),
    _column("state", "waiting, starting, up, draining, silent: it does not answer, down", state, 8, words=True),
    _column("log", "the file of its log", lambda line: Cell(str(line.log)), 24, 9, words=True, most=80),
    _column("running", "requests that run", lambda line: number(line.told.running), 7),
    _column("waiting", "requests in its queue", lambda line: number(line.told.waiting), 7),
    _column("KV", "the part of its KV cache in use", lambda line: share(line.told.kv_usage), 5),
    _column("leases", "leases granted and not over", lambda line: number(line.told.leases), 6, 1),
    _column("held", "the memory of those", lambda line: memory(line.told.held_bytes), 8, 5),
    _column("sessions", "open sessions with other engines", lambda line: number(line.told.sessions), 8, 4),
    _column("restarts", "starts after its first one", lambda line: alarm(line.supervised.restarts, "open"), 8, 2),
    _column("since", "the time in this state", lambda line: since(line), 6, 3),
)


def table(processes: Sequence[ProcessNow], width: int) -> Table:
    """Returns the table, with the columns that fit."""
    fit = fitting(PROCESSES, width, room=0)
    lines = [[heading.cell(process, heading.width) for heading in fit] for process in processes]
    below = "\n".join(remark for process in processes for remark in _remarks(process))
    return Table([heading.label for heading in fit], lines, caption=below, texts=sum(heading.words for heading in fit))


def _remarks(process: ProcessNow) -> list[str]:
    supervised, look = process.supervised, process.look
    if supervised.phase is ProcessPhase.WAITING and supervised.last_end:
        return [f"{supervised.name}: {supervised.last_end}; starts in {duration(supervised.start_at - process.now)}"]
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
    """The sight of a run: lines, and below them the table where there is a terminal."""

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
        self._put(elapsed, Text(text, style=style))

    def _put(self, *parts: Text | str) -> None:
        # rich ends the program when nobody reads what it prints; `tee`, to which it goes, has ended by the same Ctrl-C.
        with contextlib.suppress(SystemExit):
            self._console.print(*parts, sep="")

    def lead(self, *lines: str) -> None:
        """Prints lines without a time, whatever is wanted: where requests go, and how to try it."""
        for line in lines:
            self._put(line)

    def show(self, processes: Sequence[ProcessNow], title: str) -> None:
        """Shows the table, on a terminal."""
        if self._quiet or not self._console.is_terminal:
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(
            Group(Text(title, style="bold"), table(processes, self._console.width).__rich__()), refresh=True
        )

    def close(self) -> None:
        """Leaves the table as it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None
