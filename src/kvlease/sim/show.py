"""What the commands of the simulator show on a console: progress, sums, and the table of planted bugs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from kvlease.sim.fuzz import Tally
from kvlease.sim.hunt import Quarry, Score
from kvlease.sim.planted import PLANTED

PLAIN_EVERY_S = 10.0
"""How often a line of progress is written where there is no terminal."""
GROUPS = {
    "faults": "faults by kind",
    "answers": "answers by how they came",
    "ends": "leases by the cause of their end",
    "verdicts": "fence checks by verdict",
}
"""Prefixes of `Outcome.counts`, and what they are called."""


class Watch:
    """Shows a growing sum from time to time."""

    def __init__(self, say: Callable[[str], None], every_s: float) -> None:
        """Says a line with `say`, every `every_s` seconds."""
        self._say = say
        self._every_s = every_s
        self._began = self._said_at = monotonic()

    def __call__(self, tally: Tally) -> None:
        now = monotonic()
        if now - self._said_at >= self._every_s:
            self._said_at = now
            self._say(sum_in_words(tally, now - self._began))


def sum_in_words(tally: Tally, took_s: float) -> str:
    """In one line."""
    rate = tally.runs / took_s if took_s else 0.0
    return (
        f"{tally.runs:,} runs, {rate:.1f}/s, {tally.events:,} events, {tally.simulated_s / 3600:,.1f} simulated hours, "
        f"{len(tally.failures)} failures"
    )


@contextmanager
def progress(console: Console) -> Iterator[tuple[Callable[[str], None], float]]:
    """How to show a line of progress, and how often (seconds)."""
    if not console.is_terminal:
        yield (lambda text: console.print(text, highlight=False)), PLAIN_EVERY_S
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("the first runs", total=None)
        yield (lambda text: bar.update(line, description=text)), 0.1


def tables(tally: Tally) -> Iterator[Table]:
    """What happened in all runs together, a table for each of `GROUPS` that has anything."""
    for prefix, title in GROUPS.items():
        found = {
            name.removeprefix(f"{prefix}."): count
            for name, count in sorted(tally.counts.items())
            if name.startswith(f"{prefix}.")
        }
        if found:
            table = Table(title=title, title_justify="left", show_header=False)
            table.add_column()
            table.add_column(justify="right")
            for name, count in found.items():
                table.add_row(name, f"{count:,}")
            yield table


def quarry_in_words(quarry: Quarry) -> str:
    hunt = quarry.hunt
    if quarry.runs is None:
        return f"{hunt.name}: not found in {hunt.max_runs} runs from seed {hunt.first_seed}"
    return f"{hunt.name}: {quarry.rule} in run {quarry.runs} from seed {hunt.first_seed}"


def planted_table(scores: Sequence[Score]) -> Table:
    """A row for each planted bug."""
    ranges = len(scores[0].quarries) if scores else 0
    table = Table(title=f"planted bugs, each hunted over {ranges} ranges of seeds", title_justify="left")
    table.add_column("planted bug")
    table.add_column("breaks")
    for heading in ("median run", "worst run", "stated"):
        table.add_column(heading, justify="right")
    for score in scores:
        stated = PLANTED[score.name].within_runs
        table.add_row(
            score.name if score.in_time else f"[bold red]{score.name}",
            ", ".join(score.rules) or "nothing",
            _runs(score.median_runs),
            _runs(score.most_runs),
            "explorer" if stated is None else str(stated),
        )
    return table


def _runs(number: float) -> str:
    return "not found" if number == float("inf") else f"{number:g}"
