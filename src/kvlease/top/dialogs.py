"""The windows that open above the tables: the help, and all about one line."""

from typing import ClassVar

import msgspec
from rich.table import Table as RichTable
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from kvlease.top.engine_columns import ENGINES
from kvlease.top.facts import facts
from kvlease.top.lease_columns import LEASES
from kvlease.top.picture import EngineLine, LeaseLine, SessionLine
from kvlease.top.session_columns import SESSIONS
from kvlease.top.sparks import spark

KEYS = (
    ("1 2 3", "engines, leases, sessions; Tab goes to the next one on the screen"),
    ("↑ ↓", "the line; Enter shows all about it"),
    ("< >", "sort by the column to the left or right; r reverses (or click on a heading)"),
    ("/", "show only lines that contain a text; Esc shows all"),
    ("p", "pause: the view stands still, and engines are asked on"),
    ("q", "quit"),
)

HISTORY_WIDTH = 50


class Dialog(ModalScreen[None]):
    """A text in a frame, which any of the usual keys closes."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q,enter,question_mark", "dismiss", "close")]
    DEFAULT_CSS = """
    Dialog { align: center middle; }
    Dialog VerticalScroll {
        width: 90%; max-width: 120; height: auto; max-height: 90%;
        border: round $accent; border-title-style: bold; padding: 0 1; background: $surface;
    }
    Dialog Static { height: auto; }
    """

    def __init__(self, title: str, content: RichTable) -> None:
        super().__init__()
        self._title, self._content = title, content

    def compose(self) -> ComposeResult:
        with VerticalScroll() as frame:
            frame.border_title, frame.border_subtitle = self._title, "Esc closes"
            yield Static(self._content)


def help_dialog() -> Dialog:
    """Returns the keys, and the meaning of every column."""
    table = _grid(2)
    for key, what in KEYS:
        table.add_row(Text(key, "bold"), what)
    for title, headings in (("engines", ENGINES), ("leases", LEASES), ("sessions", SESSIONS)):
        table.add_row()
        table.add_row(Text(title, "bold underline"), "")
        for heading in headings:
            if heading.label:
                table.add_row(Text(heading.label, "bold"), heading.meaning)
    return Dialog("help", table)


def facts_dialog(line: EngineLine | LeaseLine | SessionLine) -> Dialog:
    """Returns all about one line, and for an engine the memory that it has held so far."""
    table = _grid(2)
    struct: msgspec.Struct
    match line:
        case EngineLine():
            title, struct = line.name, line.now
            table.add_row(Text("held so far", "bold"), spark(line.held, HISTORY_WIDTH).strip())
        case LeaseLine():
            title, struct = line.lease.request_id, line.entry()
            table.add_row(Text("held by", "bold"), line.producer)
        case SessionLine():
            title, struct = f"{line.engine} and {line.peer}", line.entry
    for label, text in facts(struct):
        table.add_row(Text(label, "bold"), Text(text))
    return Dialog(title, table)


def _grid(columns: int) -> RichTable:
    table = RichTable.grid(padding=(0, 2, 0, 0))
    for number in range(columns):
        table.add_column(no_wrap=number == 0)
    return table
