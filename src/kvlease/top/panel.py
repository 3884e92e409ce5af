"""One of the view's tables: sorted, filtered, and with the columns that fit."""

from collections.abc import Callable, Sequence
from typing import Any, Generic

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Resize
from textual.message import Message
from textual.widgets import DataTable, Static

from kvlease.top.headings import Heading, T, fitting, matching, ordered

STYLES = {"": "", "good": "green", "bad": "bold red", "open": "yellow"}
MOST_LINES = 500
"""The most lines that are drawn, the first in the order: more than that nobody reads, and drawing takes seconds."""
SCROLLBAR = 2
"""The columns that are left free for it."""


class Panel(Vertical, Generic[T]):
    """A table in a frame. The terminal's focus is on one of them, to which sorting belongs."""

    DEFAULT_CSS = """
    Panel { border: round $primary-darken-1; border-title-color: $text; border-subtitle-color: $text-error; }
    Panel:focus-within { border: round $accent; border-title-color: $text-accent; border-title-style: bold; }
    Panel DataTable { height: auto; max-height: 100%; background: transparent; scrollbar-size-horizontal: 0; }
    Panel DataTable > .datatable--header { background: transparent; color: $text-muted; }
    Panel Static { color: $text-muted; padding: 0 1; display: none; }
    Panel.empty Static { display: block; }
    """

    class Opened(Message):
        """Somebody wants to see all about one line."""

        def __init__(self, line: Any) -> None:
            super().__init__()
            self.line = line

    def __init__(
        self,
        id: str,
        headings: Sequence[Heading[T]],
        key: Callable[[T], str],
        sort_by: str,
        dim: Callable[[T], bool] = lambda _: False,
    ) -> None:
        """`key` tells lines apart; `dim`: the lines whose figures are old."""
        super().__init__(id=id)
        self._headings, self._key, self._dim = headings, key, dim
        self.sort_by, self.reverse = sort_by, False
        self._lines: Sequence[T] = ()
        self._found: list[T] = []
        self._shown: list[T] = []
        self._filter, self._empty = "", ""
        self._columns: list[tuple[str, int, str]] = []
        self._texts: dict[str, list[Text]] = {}
        self._drawn: dict[str, T] = {}

    def compose(self) -> ComposeResult:
        yield DataTable(cursor_type="row")
        yield Static()

    @property
    def table(self) -> DataTable[Text]:
        """The widget that has the focus."""
        return self.query_one(DataTable)

    def take(self, lines: Sequence[T], filtered_by: str, empty: str) -> int:
        """Shows these lines, as far as they match; without any it shows the text `empty`. Returns the number that
        match."""
        self._lines, self._filter, self._empty = lines, filtered_by, empty
        self._sort_and_filter()
        self._draw()
        return len(self._found)

    def sort_by_next(self, by: int) -> None:
        """Sorts by the column to the right, or to the left."""
        keys = [key for key, _, _ in self._columns]
        if keys:
            at = keys.index(self.sort_by) if self.sort_by in keys else 0
            self.sort_by, self.reverse = keys[(at + by) % len(keys)], False
            self._sorted_anew()

    def turn_round(self) -> None:
        """Reverses the order."""
        self.reverse = not self.reverse
        self._sorted_anew()

    # -- what the terminal says ------------------------------------------------------------------------------------

    def on_resize(self, _: Resize) -> None:
        self._draw()

    def on_data_table_header_selected(self, event: "DataTable.HeaderSelected") -> None:
        key = str(event.column_key.value)
        self.reverse = not self.reverse if key == self.sort_by else False
        self.sort_by = key
        self._sorted_anew()

    def on_data_table_row_selected(self, event: "DataTable.RowSelected") -> None:
        # A look may have come between the key and this: the line is another one's place now, or gone.
        line = self._drawn.get(str(event.row_key.value))
        if line is not None:
            self.post_message(self.Opened(line))

    def _sorted_anew(self) -> None:
        self._sort_and_filter()
        self._draw()

    def _sort_and_filter(self) -> None:
        by = next(heading for heading in self._headings if heading.key == self.sort_by)
        self._found = ordered(matching(self._lines, self._headings, self._filter), by, self.reverse)
        self._shown = self._found[:MOST_LINES]

    # -- drawing ---------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        # A table that is behind another one has no width.
        if not self.is_mounted or self.size.width == 0:
            return
        self.set_class(not self._shown, "empty")
        none = f"nothing matches {self._filter!r}" if self._lines else self._empty
        self.query_one(Static).update(Text(none))
        fit = fitting(self._headings, self.size.width - SCROLLBAR)
        self._draw_columns(fit)
        self._draw_lines(fit)

    def _draw_columns(self, fit: Sequence[Heading[T]]) -> None:
        columns = [(heading.key, heading.width, self._label(heading)) for heading in fit]
        if columns == self._columns:
            return
        at = self.table.cursor_row
        self.table.clear(columns=True)
        for heading, (key, width, label) in zip(fit, columns, strict=True):
            justify: Any = "left" if heading.words else "right"
            self.table.add_column(Text(label, justify=justify, no_wrap=True), width=width, key=key)
        self._columns, self._texts = columns, {}
        self.call_after_refresh(self.table.move_cursor, row=at)

    def _label(self, heading: Heading[T]) -> str:
        if heading.key != self.sort_by:
            return heading.label
        arrow = "▲" if self.reverse != heading.words else "▼"
        return f"{heading.label}{arrow}" if len(heading.label) < heading.width else f"{heading.label[:-1]}{arrow}"

    def _draw_lines(self, fit: Sequence[Heading[T]]) -> None:
        drawn: dict[str, T] = {}
        for number, line in enumerate(self._shown):
            key = self._key(line)
            drawn[key if key not in drawn else f"{key}#{number}"] = line
        texts = {key: [self._text(line, heading) for heading in fit] for key, line in drawn.items()}
        if list(texts) == list(self._texts):
            self._update(texts)
        else:
            self._replace(texts)
        self._texts, self._drawn = texts, drawn

    def _update(self, texts: dict[str, list[Text]]) -> None:
        for key, cells in texts.items():
            for (column, _, _), cell, before in zip(self._columns, cells, self._texts[key], strict=True):
                if cell != before or cell.style != before.style:
                    self.table.update_cell(key, column, cell)

    def _replace(self, texts: dict[str, list[Text]]) -> None:
        """Writes all lines anew, with the cursor on the line that it was on."""
        before, at = list(self._texts), self.table.cursor_row
        chosen = before[at] if at < len(before) else None
        self.table.clear()
        for key, cells in texts.items():
            self.table.add_row(*cells, key=key)
        row = list(texts).index(chosen) if chosen in texts else min(at, max(len(texts) - 1, 0))
        self.table.move_cursor(row=row)

    def _text(self, line: T, heading: Heading[T]) -> Text:
        cell = heading.cell(line, heading.width)
        style = STYLES[cell.tone] or heading.tint
        if self._dim(line) and cell.tone != "bad":
            style = "dim"
        justify: Any = "left" if heading.words else "right"
        return Text(cell.text, style=style, justify=justify, no_wrap=True, overflow="ellipsis")
