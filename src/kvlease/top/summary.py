"""The view's first lines: all engines together."""

from collections import deque

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Sparkline, Static

from kvlease.console.numbers import count, size
from kvlease.top.document import total
from kvlease.top.picture import EngineLine, Picture
from kvlease.top.watching import REMEMBERED


class Summary(Horizontal):
    """The sums over all engines, and the memory that they have held so far."""

    DEFAULT_CSS = """
    Summary { height: 2; padding: 0 1; }
    Summary Static { width: 50; text-wrap: nowrap; text-overflow: ellipsis; }
    Summary Sparkline { width: 1fr; height: 2; margin-left: 1; }
    Summary Sparkline > .sparkline--max-color { color: $accent; }
    Summary Sparkline > .sparkline--min-color { color: $primary-darken-2; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: deque[float] = deque(maxlen=REMEMBERED)

    def compose(self) -> ComposeResult:
        yield Static()
        yield Sparkline([])

    def take(self, picture: Picture) -> None:
        """Shows the sums of a picture."""
        self._held.append(_sum(picture, "held_bytes"))
        self.query_one(Static).update(Text("\n").join([_holding(picture), _troubles(picture)]))
        self.on_resize()

    def on_resize(self) -> None:
        """Draws the memory held so far: one reading a column, the newest at the right."""
        line = self.query_one(Sparkline)
        shown = list(self._held)[-max(line.size.width, 1) :]
        line.data = [0.0] * (line.size.width - len(shown)) + shown


def _sum(picture: Picture, figure: str) -> float:
    return sum(getattr(line.now, figure) or 0 for line in picture.engines if line.now.answers)


def _holding(picture: Picture) -> Text:
    leases, claimed = _sum(picture, "active_leases"), _sum(picture, "claimed_leases")
    return Text.assemble(
        "held ",
        (size(_sum(picture, "held_bytes")), "bold"),
        f" in {count(leases)} lease{'' if leases == 1 else 's'}, {count(claimed)} claimed",
    )


def _troubles(picture: Picture) -> Text:
    lines = picture.engines
    unheard = sum(total(line.now.unheard_leases) or 0 for line in lines if line.now.answers)
    late = sum(line.late_reads or 0 for line in lines)
    parts = [Text(_engines(lines))]
    for number, what, style in (
        (sum(not line.now.answers for line in lines), "no answer", "bold red"),
        (unheard, "unheard", "yellow"),
        (late, "late", "bold red" if any(line.late_lately for line in lines) else "yellow"),
    ):
        if number:
            parts.append(Text(f"{count(number)} {what}", style))
    return Text(" · ").join(parts)


def _engines(lines: tuple[EngineLine, ...]) -> str:
    return f"{len(lines)} engine{'' if len(lines) == 1 else 's'}"
