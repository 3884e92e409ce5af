"""Progress of a running command: in place on a terminal, in lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from kvlease.console.tables import Table

PLAIN_WIDTH = 140
"""The width in columns of a table that goes into a file."""
PLAIN_EVERY_S = 10.0
"""The time between two lines of progress where there is no terminal."""
IN_PLACE_EVERY_S = 0.1


class Tell(Protocol):
    """Tells of progress; cheap enough to be called for everything that is done."""

    def __call__(self, text: str, share: float | None = None, /) -> None:
        """`share`: the part that is done, from 0 to 1, where that is known."""


def open_console() -> Console:
    """Returns a console for standard output, where text is no markup, and only the terminal breaks its lines."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(highlight=False, markup=False, soft_wrap=True, width=width)


def show(console: Console, *tables: Table) -> None:
    """Prints tables, one below the other, as wide as the console at most."""
    for table in tables:
        console.print(table, soft_wrap=False)


@contextmanager
def progress(
    console: Console, first: str, *, plain_every_s: float = PLAIN_EVERY_S, bar: bool = False
) -> Iterator[Tell]:
    """A context that gives the function to tell of progress with. `first` is shown on a terminal until something is
    told; `bar` shows the share there, too.

    Elsewhere a line is written every `plain_every_s` seconds at most, and one for the whole (a share of 1).
    """
    every_s = IN_PLACE_EVERY_S if console.is_terminal else plain_every_s
    last = time.monotonic()

    def due(share: float | None) -> bool:
        nonlocal last
        if share != 1.0 and time.monotonic() - last < every_s:
            return False
        last = time.monotonic()
        return True

    if not console.is_terminal:

        def write(text: str, share: float | None = None, /) -> None:
            if due(share):
                console.print(text if share is None else f"{100 * share:3.0f} %  {text}")

        yield write
        return
    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
    columns += [BarColumn(), TaskProgressColumn()] if bar else []
    columns += [TimeElapsedColumn(), TimeRemainingColumn()] if bar else [TimeElapsedColumn()]
    with Progress(*columns, console=console, transient=True) as line:
        task = line.add_task(first, total=1.0 if bar else None)

        def move(text: str, share: float | None = None, /) -> None:
            if due(share):
                line.update(task, description=text, completed=share)

        yield move


class Story:
    """Tells what happens, line by line; every line bears the seconds since it began."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()

    def elapsed_s(self) -> float:
        """Returns the seconds since it began."""
        return time.monotonic() - self._began

    def say(self, text: str, style: str = "") -> None:
        """Prints one line about what just happened; it may contain rich's markup."""
        self.console.print(Text(f"{self.elapsed_s():6.1f} s  ", "dim"), Text.from_markup(text, style=style), sep="")

    def title(self, text: str) -> None:
        """Begins a part."""
        self.console.print()
        self.console.rule(Text(text, style="bold"), align="left")

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """A context with a spinner and a clock on a terminal, and a plain line elsewhere."""
        if not self.console.is_terminal:
            self.say(f"{text} ...")
        with progress(self.console, text):
            yield
