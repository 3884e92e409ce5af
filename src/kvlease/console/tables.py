"""Tables that are made once, and shown on a console, in Markdown and on a page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Group

Tone = Literal["", "good", "bad", "open"]
_STYLES = {"": "", "good": "green", "bad": "bold red", "open": "yellow"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A text in a table that is highlighted, or that has a hint."""

    text: str
    tone: Tone = ""
    hint: str = ""
    """The text that a page shows beside the pointer."""


@dataclass(frozen=True, slots=True)
class Table:
    """Lines of cells. A line without cells separates those above it from those below."""

    headings: Sequence[str]
    lines: Sequence[Sequence[str | Cell]]
    title: str = ""
    caption: str = ""
    chosen: int | None = None
    """The number of the highlighted line."""
    texts: int = 1
    """The number of columns of words, from the left; the columns after them are of figures."""

    @property
    def cells(self) -> Iterator[Sequence[Cell]]:
        """Yields the lines, with every cell as a `Cell`."""
        for line in self.lines:
            yield [Cell(cell) if isinstance(cell, str) else cell for cell in line]

    def __rich__(self) -> "Group":
        """Returns the table for a console."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(show_header=any(self.headings), box=SIMPLE_HEAD, pad_edge=False)
        for number, heading in enumerate(self.headings):
            figures = number >= self.texts
            table.add_column(Text(heading), justify="right" if figures else "left", no_wrap=figures)
        for number, line in enumerate(self.cells):
            if not line:
                table.add_section()
                continue
            style = "bold green" if number == self.chosen else ""
            table.add_row(*(Text(cell.text, style=_STYLES[cell.tone]) for cell in line), style=style)
        # Title and caption are printed apart: rich breaks a table's own ones at the width of the table.
        title = [Text(self.title, style="bold")] if self.title else []
        caption = [Text(f"{self.caption}\n", style="dim")] if self.caption else []
        return Group(*title, table, *caption)

    def markdown(self) -> str:
        """Returns the table in Markdown, without its title."""
        lines = [list(self.headings), *([cell.text for cell in line] for line in self.cells if line)]
        written = ["| " + " | ".join(text.replace("|", "\\|").strip() for text in line) + " |" for line in lines]
        return "\n".join([written[0], "|" + "---|" * len(self.headings), *written[1:]])


def verdict(kept: bool | None, good: str = "kept", bad: str = "BROKEN", unknown: str = "") -> Cell:
    """Returns the cell that tells whether a promise was kept or a goal met; None means that it was not checked."""
    return Cell(unknown, "open") if kept is None else Cell(good, "good") if kept else Cell(bad, "bad")
