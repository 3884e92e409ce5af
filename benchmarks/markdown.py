"""The tables of docs/performance.md, as they stand there."""

from collections.abc import Iterable, Sequence

from benchmarks.document import Document
from benchmarks.report import ratio_text, spread_text, verdict_word


def goals_table(documents: Sequence[Document]) -> str:
    """Every goal, what was found, and whether it was met."""
    rows = [
        (document.name, goal.text, goal.found, verdict_word(goal)) for document in documents for goal in document.goals
    ]
    return _table(("", "goal", "found", ""), rows)


def figures_table(document: Document) -> str:
    """Every figure of one benchmark: medians, and quartiles where there was more than one value."""
    rows = [
        (
            row.what.replace("  …", "…"),
            spread_text(row.ours, row.unit),
            spread_text(row.stock, row.unit),
            ratio_text(row.ratio),
        )
        for row in document.rows
    ]
    return _table(("", *document.sides, " / ".join(document.sides)), rows)


def notes_list(document: Document) -> str:
    """What has to be known to believe them."""
    return "\n".join(f"- {note}" for note in document.notes)


def page(documents: Sequence[Document]) -> str:
    """Goals first, then each benchmark."""
    parts = [goals_table(documents)]
    for document in documents:
        measured = f"*{document.effort.value}, commit {document.commit}, {document.at[:10]}, {document.took_s:.0f} s*"
        parts += [f"### {document.name}: {document.title}", figures_table(document), notes_list(document), measured]
    return "\n\n".join(parts) + "\n"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").strip() for cell in line) + " |" for line in lines)
