"""What the user sees while it happens: a line per step, and a clock while something takes long."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Show:
    """Writes to a console; every line bears the seconds since the demo began."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """One line about what just happened."""
        self.console.print(f"[dim]{self.elapsed_s():6.1f} s[/dim]  {text}", highlight=False)

    def title(self, text: str) -> None:
        """Begins a part."""
        self.console.print()
        self.console.rule(f"[bold]{text}", align="left")

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """A spinner and a clock on a terminal, a plain line elsewhere, until left."""
        if not self.console.is_terminal:
            self.say(f"{text} ...")
            yield
            return
        columns = (TextColumn("         "), SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            progress.add_task(text, total=None)
            yield
