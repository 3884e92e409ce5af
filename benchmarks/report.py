"""The tables: one for a benchmark when it is through, and one over all that have been run."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.document import Document
from benchmarks.figures import Goal, Spread

_VERDICTS = {True: ("met", "green"), False: ("MISSED", "bold red"), None: ("not measured", "yellow")}


def result_table(document: Document) -> RenderableType:
    """Every figure beside stock's, then the goals, then what has to be known to believe them."""
    figures = Table(title=f"{document.name}: {document.title}", title_justify="left")
    figures.add_column("")
    for heading in (*document.sides, " / ".join(document.sides)):
        figures.add_column(heading, justify="right")
    for row in document.rows:
        figures.add_row(
            row.what, spread_text(row.ours, row.unit), spread_text(row.stock, row.unit), ratio_text(row.ratio)
        )
    notes = [Text(f"- {note}", style="dim") for note in document.notes]
    return Group(figures, *([goal_table([document])] if document.goals else []), *notes)


def goal_table(documents: Sequence[Document]) -> Table:
    """The goals of all these, and whether they were met."""
    table = Table(title="Goals", title_justify="left")
    for heading in ("benchmark", "measured", "goal", "found", ""):
        table.add_column(heading)
    for document in documents:
        for number, goal in enumerate(document.goals):
            whose = ("", "") if number else (document.name, _measured(document))
            table.add_row(*whose, goal.text, goal.found, _verdict(goal))
    return table


def machine_text(machine: Mapping[str, str]) -> str:
    """In one line."""
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def spread_text(spread: Spread | None, unit: str) -> str:
    """The median, and the quartiles: "3.1 µs (3.05 to 3.3)"; "-" where there is none."""
    if spread is None:
        return "-"
    quartiles = "" if spread.count == 1 else f" ({figure(spread.low)} to {figure(spread.high)})"
    return f"{figure(spread.median)} {unit}".rstrip() + quartiles


def ratio_text(ratio: Spread | None) -> str:
    """As a factor near 1, as a fraction when far below: "0.930 (0.900 to 0.950)", "1/540 (1/560 to 1/520)"."""
    if ratio is None:
        return "-"
    written = _fraction if 0 < ratio.median < 0.1 else _near_one if 0.8 < ratio.median < 1.25 else figure
    quartiles = "" if ratio.count == 1 else f" ({written(ratio.low)} to {written(ratio.high)})"
    return written(ratio.median) + quartiles


def figure(value: float) -> str:
    """With three digits that count, and commas: 0.0123, 3.14, 31.4, 314, 3,140,000."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.2e}"


def _near_one(value: float) -> str:
    # A goal of one per cent is not judged by three digits.
    return f"{value:.3f}"


def _fraction(value: float) -> str:
    return f"1/{figure(1 / value)}" if value > 0 else "0"


def _measured(document: Document) -> str:
    return f"{document.at[:10]}, {document.commit}, {document.effort.value}"


def verdict_word(goal: Goal) -> str:
    """met, MISSED or not measured."""
    return _VERDICTS[goal.met][0]


def _verdict(goal: Goal) -> Text:
    word, style = _VERDICTS[goal.met]
    return Text(word, style=style)
