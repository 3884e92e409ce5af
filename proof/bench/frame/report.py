"""The findings of benchmarks as tables for a console, and as proof/bench/results' Markdown."""

from collections.abc import Mapping, Sequence

from kvlease.console.numbers import figure, fraction
from kvlease.console.tables import Cell, Table, verdict
from proof.bench.frame.document import Document
from proof.bench.frame.figures import Goal, Spread


def figures_table(document: Document) -> Table:
    """Every figure beside stock's: medians, and quartiles where there was more than one value."""
    return Table(
        ("", *document.sides, " / ".join(document.sides)),
        [
            (row.what, spread_text(row.ours, row.unit), spread_text(row.stock, row.unit), ratio_text(row.ratio))
            for row in document.rows
        ],
        title=f"{document.name}: {document.title}",
    )


def goals_table(documents: Sequence[Document]) -> Table:
    """The goals of all these, when and of what they were measured, and whether they were met."""
    lines: list[Sequence[str | Cell]] = []
    for document in documents:
        for number, goal in enumerate(document.goals):
            whose = ("", "") if number else (document.name, measured(document))
            lines.append((*whose, goal.text, goal.found, _met(goal)))
    return Table(("benchmark", "measured", "goal", "found", ""), lines, title="Goals", texts=5)


def notes_list(document: Document) -> str:
    """The notes that have to be known to believe the figures, as a list."""
    return "\n".join(f"- {note}" for note in document.notes)


def measured(document: Document) -> str:
    """Names the time at which the figures were taken, and the code."""
    return f"{document.effort.value}, commit {document.commit}, {document.at[:10]}, {document.took_s:.0f} s"


def page(documents: Sequence[Document]) -> str:
    """The page in Markdown: goals first, then each benchmark."""
    goals = [(document.name, goal.text, goal.found, _met(goal)) for document in documents for goal in document.goals]
    parts = [Table(("", "goal", "found", ""), goals).markdown()]
    for document in documents:
        figures = figures_table(document)
        parts += [f"### {figures.title}", figures.markdown(), notes_list(document), f"*{measured(document)}*"]
    return "\n\n".join(parts) + "\n"


def machine_text(machine: Mapping[str, str]) -> str:
    """Describes the machine in one line."""
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def spread_text(spread: Spread | None, unit: str) -> str:
    """The median, and the quartiles: "3.1 µs (3.05 to 3.3)"; "-" where there is none."""
    if spread is None:
        return "-"
    quartiles = "" if spread.count == 1 else f" ({figure(spread.low)} to {figure(spread.high)})"
    return f"{figure(spread.median)} {unit}".rstrip() + quartiles


def ratio_text(ratio: Spread | None) -> str:
    """The ratio, as a factor near 1, as a fraction when far below: "0.930 (0.900 to 0.950)", "1/540 (1/560 to
    1/520)"."""
    if ratio is None:
        return "-"
    written = fraction if 0 < ratio.median < 0.1 else _near_one if 0.8 < ratio.median < 1.25 else figure
    quartiles = "" if ratio.count == 1 else f" ({written(ratio.low)} to {written(ratio.high)})"
    return written(ratio.median) + quartiles


def _near_one(value: float) -> str:
    # Three significant digits are too few to judge a goal of one per cent.
    return f"{value:.3f}"


def _met(goal: Goal) -> Cell:
    return verdict(goal.met, "met", "MISSED", "not measured")
