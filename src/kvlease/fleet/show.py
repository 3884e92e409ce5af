"""What the commands of the fleet show on a console: progress, and tables side by side."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kvlease.fleet.compare import Comparison, Round
from kvlease.fleet.rows import ROWS

PLAIN_EVERY_S = 10.0
"""How often a line of progress is written where there is no terminal."""
BAR_EVERY_S = 0.1


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str, float], None]]:
    """How to tell what is played and which share is done: a bar on a terminal, lines elsewhere."""
    last = monotonic()

    def due(every_s: float, share: float) -> bool:
        nonlocal last
        if share < 1.0 and monotonic() - last < every_s:
            return False
        last = monotonic()
        return True

    if not console.is_terminal:

        def say(what: str, share: float) -> None:
            if due(PLAIN_EVERY_S, share):
                console.print(f"{100 * share:3.0f} %  {what}", highlight=False)

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("the first run", total=1.0)

        def move(what: str, share: float) -> None:
            if due(BAR_EVERY_S, share):
                bar.update(task, description=what, completed=share)

        yield move


def tables(comparison: Comparison) -> Iterator[Table]:
    """One for each scenario, policies side by side."""
    for each in comparison.rounds:
        yield _table(each)


def _table(of: Round) -> Table:
    first = of.outcomes[0]
    title = f"{of.scenario.name}: {of.scenario.what}"
    faults = f", {first.crashes} crashes, {first.stalls} stalls" if first.crashes or first.stalls else ""
    caption = (
        f"{first.requests.arrived:,} requests, {of.rate:.3g} a second on average, in {first.window_s:,.0f} simulated "
        f"seconds{faults}"
    )
    table = Table(
        title=title, caption=caption, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("", no_wrap=True)
    for outcome in of.outcomes:
        table.add_column(outcome.policy, justify="right", no_wrap=True)
    for row in ROWS:
        table.add_row(row.label, *(_cell(row.text(outcome), row.bad(outcome)) for outcome in of.outcomes))
    return table


def _cell(text: str, bad: bool) -> Text:
    return Text(text, style="bold red" if bad else "")


def plain(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]], chosen: int | None = None) -> Table:
    """A table of text; the line with the number `chosen` stands out."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=not number)
    for number, line in enumerate(lines):
        table.add_row(*line, style="bold green" if number == chosen else "")
    return table
