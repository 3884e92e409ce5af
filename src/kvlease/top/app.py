"""The terminal's view of all engines."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Resize
from textual.widgets import DataTable, Footer, Input, Static

from kvlease.top.dialogs import facts_dialog, help_dialog
from kvlease.top.engine_columns import ENGINES
from kvlease.top.lease_columns import LEASES
from kvlease.top.panel import Panel
from kvlease.top.picture import EngineLine, LeaseLine, Picture, SessionLine, take
from kvlease.top.session_columns import SESSIONS
from kvlease.top.summary import Summary
from kvlease.top.watching import Watched

WIDE = 150
"""The width from which on leases and sessions stand side by side."""
NO_LEASES = "no leases"
NO_SESSIONS = "no sessions"
NOT_SERVED = """\
no engine here serves its leases and sessions, which are under /v1/kvlease:
start vLLM's API server with VLLM_PLUGINS=kvlease, or give kv_lease_listen"""


class Top(App[None]):
    """Engines above, leases and sessions below. It asks every engine in a task of its own: none can hold it up."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        ("question_mark", "help", "help"),
        ("q", "quit", "quit"),
        ("p", "pause", "pause"),
        ("slash", "filter", "filter"),
        Binding("less_than_sign", "sort(-1)", "sort", key_display="< >"),
        Binding("greater_than_sign", "sort(1)", "", key_display=">", show=False),
        ("r", "reverse", "reverse"),
        # These stand in the titles of the tables.
        Binding("1", "panel('engines')", "", show=False),
        Binding("2", "panel('leases')", "", show=False),
        Binding("3", "panel('sessions')", "", show=False),
        Binding("escape", "all", "", show=False),
        Binding("ctrl+c", "quit", "", show=False, priority=True),
    ]
    CSS = """
    #title { height: 1; background: $primary-darken-2; color: $text; }
    #engines { height: auto; max-height: 50%; }
    #below { height: 1fr; }
    #leases, #sessions { width: 1fr; height: 100%; }
    Screen.narrow .behind { display: none; }
    #filter { display: none; height: 1; border: none; padding: 0 1; }
    #filter.asked { display: block; }
    """

    def __init__(
        self,
        watched: Sequence[Watched],
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._watched, self._interval_s = watched, interval_s
        self._clock, self._wall_clock = clock, wall_clock
        self._picture: Picture | None = None
        self.paused = False
        self.engines: Panel[EngineLine] = Panel(
            "engines", ENGINES, _engine_key, "engine", dim=lambda line: not line.now.answers
        )
        self.leases: Panel[LeaseLine] = Panel("leases", LEASES, _lease_key, "age")
        self.sessions: Panel[SessionLine] = Panel("sessions", SESSIONS, _session_key, "engine")
        self._below = "leases"

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        yield Summary()
        yield self.engines
        with Horizontal(id="below"):
            yield self.leases
            yield self.sessions
        yield Input(placeholder="show only lines with this text; Esc shows all", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        self.engines.table.focus()
        self._show_below()
        self.begin()

    def begin(self) -> None:
        """Begins to ask, each engine in a task of its own, and to show what they answer."""
        for one in self._watched:
            self.run_worker(self._keep_asking(one))
        self.set_interval(self._interval_s, self.look)

    async def _keep_asking(self, one: Watched) -> None:
        await one.poll()
        self.look(begun=True)
        while True:
            await asyncio.sleep(self._interval_s)
            await one.poll()

    def look(self, begun: bool = False) -> None:
        """Shows how it is now. `begun`: an engine was heard for the first time."""
        if self.paused and self._picture is not None:
            return
        self._picture = take(self._watched, self._clock(), self._wall_clock())
        if not begun:
            self.query_one(Summary).take(self._picture)
        self._draw()

    # -- keys ------------------------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        """Has the view stand still, or go on."""
        self.paused = not self.paused
        self.look()
        self._draw()

    def action_sort(self, by: int) -> None:
        """Sorts the table that has the focus by its next column."""
        self._focused().sort_by_next(by)

    def action_reverse(self) -> None:
        """Reverses the order of the table that has the focus."""
        self._focused().turn_round()

    def action_panel(self, name: str) -> None:
        """Goes to a table."""
        if name != "engines":
            self._below = name
            self._show_below()
        self.query_one(f"#{name}", Panel).table.focus()
        self._draw()

    def action_filter(self) -> None:
        """Asks for the text that lines must contain."""
        field = self.query_one("#filter", Input)
        field.add_class("asked")
        field.focus()

    def action_all(self) -> None:
        """Shows all lines again."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.remove_class("asked")
        self._focused().table.focus()
        self._draw()

    def action_help(self) -> None:
        """Shows the keys, and what the columns mean."""
        self.push_screen(help_dialog())

    def on_input_changed(self, _: Input.Changed) -> None:
        self._draw()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        self._focused().table.focus()

    def on_panel_opened(self, event: Panel.Opened) -> None:
        self.push_screen(facts_dialog(event.line))

    def on_descendant_focus(self) -> None:
        """Tab reaches the tables one after the other, also the one that is behind another."""
        self._draw()

    def on_resize(self, event: Resize) -> None:
        self.screen.set_class(event.size.width < WIDE, "narrow")

    # -- drawing ---------------------------------------------------------------------------------------------------

    def _focused(self) -> Panel[EngineLine] | Panel[LeaseLine] | Panel[SessionLine]:
        if isinstance(self.focused, DataTable) and isinstance(self.focused.parent, Panel):
            return self.focused.parent
        return self.engines

    def _show_below(self) -> None:
        for panel in (self.leases, self.sessions):
            panel.set_class(panel.id != self._below, "behind")

    def _draw(self) -> None:
        picture = self._picture
        if picture is None:
            return
        text = self.query_one("#filter", Input).value
        served = any(line.now.admin for line in picture.engines)
        engines = self.engines.take(picture.engines, text, "asking ...")
        leases = self.leases.take(picture.leases, text, NO_LEASES if served else NOT_SERVED)
        sessions = self.sessions.take(picture.sessions, text, NO_SESSIONS if served else NOT_SERVED)
        self.engines.border_title = f"1 engines: {_of(engines, len(picture.engines))}"
        self.engines.border_subtitle = _trouble(picture)
        of_leases = f"2 leases: {_of(leases, picture.leases_total)}"
        of_sessions = f"3 sessions: {_of(sessions, len(picture.sessions))}"
        narrow = self.screen.has_class("narrow")
        self.leases.border_title = of_leases + (f"  │  {of_sessions}" if narrow else "")
        self.sessions.border_title = of_sessions + (f"  │  {of_leases}" if narrow else "")
        self.query_one("#title", Static).update(self._title_line(picture, text))

    def _title_line(self, picture: Picture, text: str) -> Text:
        left = Text.assemble((" kvlease top ", "bold"), (f" only {text!r} ", "reverse") if text else "")
        paused = (" PAUSED ", "bold reverse") if self.paused else f"every {self._interval_s:g} s"
        right = Text.assemble(paused, datetime.fromtimestamp(picture.at).strftime("  %H:%M:%S "))
        return Text.assemble(left, " " * max(1, self.size.width - left.cell_len - right.cell_len), right)


def _of(shown: int, total: int) -> str:
    return f"{shown:,}" if shown == total else f"{shown:,} of {total:,}"


def _trouble(picture: Picture) -> str:
    """The worst that is to be said of an engine, for terminals that have no room for it in the table."""
    for line in picture.engines:
        if line.now.error and line.now.since is not None:
            since = datetime.fromtimestamp(line.now.since).strftime("%H:%M:%S")
            return f"{line.name}: {line.now.error} since {since}"
    return ""


def _engine_key(line: EngineLine) -> str:
    return f"{line.now.url}#{line.now.rank}"


def _lease_key(line: LeaseLine) -> str:
    return f"{line.url}#{line.lease.rank}#{line.lease.token}"


def _session_key(line: SessionLine) -> str:
    return f"{line.entry.url}#{line.entry.rank}#{line.peer_is}#{line.entry.incarnation}"
