"""Pictures of a dashboard's rows, drawn from the answers to its queries."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, isfinite, log2, nan
from pathlib import Path
from typing import Any

from proof.monitoring.figures import spoken
from proof.monitoring.screen import Period, Shown

_COLOURS = ("#1f6fb2", "#e08214", "#2a9d5c", "#c0392b", "#7b5ea7", "#17a2b8", "#8c6d31", "#d6619e", "#6c757d")
_INK, _FAINT, _EDGE, _PAPER = "#24292f", "#6e7781", "#d0d7de", "#ffffff"
_GOOD, _BAD = "#2a9d5c", "#c0392b"
_LINES_INCHES, _NUMBER_INCHES = (5.0, 3.1), (2.5, 1.25)
_LINES_COLUMNS = 3
_NUMBER_COLUMNS = 4
_HEAD_INCHES = 0.55
_DPI = 120
_NAMES_A_LEGEND = 8
_MOST_TICKS = 5
_HEADROOM, _HEADROOM_FOR_MARKS = 1.08, 1.25
"""The room above the highest line; the words of what happened stand there."""
_WHOLE = ("short", "none")
"""The units of what is counted: half of one is no tick."""
_NAME_INCHES = 0.16
_WIDE_NAME = 18
"""The length from which on a legend has one column."""


@dataclass(frozen=True)
class Mark:
    """Something that happened, at a time of the Unix clock."""

    at: float
    what: str


def draw_rows(shown: Sequence[Shown], period: Period, folder: Path, marks: Sequence[Mark] = ()) -> list[Path]:
    """Writes a PNG for each row of the dashboard, and returns their paths."""
    drawn = []
    for number, (row, panels) in enumerate(groupby(shown, key=lambda each: each.panel.row)):
        path = folder / f"{number}-{re.sub(r'[^a-z]+', '-', row.lower()).strip('-')}.png"
        draw(row, list(panels), period, path, marks)
        drawn.append(path)
    return drawn


def draw(title: str, shown: Sequence[Shown], period: Period, path: Path, marks: Sequence[Mark] = ()) -> None:
    """Writes a PNG of these panels: numbers above, lines below."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    boxes, (width, height) = _laid_out(shown)
    figure = pyplot.figure(figsize=(width, height), facecolor=_PAPER)
    figure.text(0.15 / width, 1 - 0.35 / height, title, fontsize=14, fontweight="bold", color=_INK)
    for each, (left, bottom, wide, high) in boxes:
        place = _Place(figure, (left / width, bottom / height, wide / width, high / height), high, marks, period)
        (_number if each.panel.number else _lines)(place, each)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


Box = tuple[float, float, float, float]
"""Left, bottom, width and height."""


@dataclass(frozen=True)
class _Place:
    """The place of a panel, and what it shares with the others."""

    figure: Any
    box: Box
    """Its part of the figure, as shares of the figure's size."""
    inches: float
    """Its height."""
    marks: Sequence[Mark]
    period: Period

    def axes(self, left: float, bottom: float, width: float, height: float) -> Any:
        """Returns axes in a part of the place, in shares of its size."""
        x, y, wide, high = self.box
        return self.figure.add_axes((x + left * wide, y + bottom * high, width * wide, height * high))


def _laid_out(shown: Sequence[Shown]) -> tuple[list[tuple[Shown, Box]], tuple[float, float]]:
    """Returns the place of each panel, numbers above lines, and the size of the whole, in inches."""
    numbers = [each for each in shown if each.panel.number]
    lines = [each for each in shown if not each.panel.number]
    # Two lines of two are easier to read than three and one.
    columns = 2 if len(lines) == 4 else min(_LINES_COLUMNS, max(1, len(lines)))
    width = columns * _LINES_INCHES[0] if lines else min(len(numbers), _NUMBER_COLUMNS) * _NUMBER_INCHES[0]
    cards = max(1, min(len(numbers), int(width // _NUMBER_INCHES[0])))
    rows = [(row, cards, _NUMBER_INCHES[1]) for row in _rows(numbers, cards)]
    rows += [(row, columns, _LINES_INCHES[1]) for row in _rows(lines, columns)]
    height = bottom = _HEAD_INCHES + sum(high for _, _, high in rows)
    bottom -= _HEAD_INCHES
    boxes = []
    for row, across, high in rows:
        bottom -= high
        wide = width / across
        boxes += [(each, (column * wide, bottom, wide, high)) for column, each in enumerate(row)]
    return boxes, (width, height)


def _rows(shown: Sequence[Shown], columns: int) -> list[list[Shown]]:
    return [list(shown[first : first + columns]) for first in range(0, len(shown), columns)]


def _number(place: _Place, shown: Shown) -> None:
    axes = place.axes(0.04, 0.06, 0.92, 0.88)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(_EDGE)
    axes.text(0.04, 0.9, shown.panel.title, transform=axes.transAxes, va="top", fontsize=9, color=_FAINT)
    value = shown.lines[0].points[-1][1] if shown.lines else float("nan")
    worry = shown.panel.worry_above is not None and value >= shown.panel.worry_above
    colour = (_BAD if worry else _GOOD) if shown.lines else _FAINT
    text = spoken(value, shown.panel.unit)
    axes.text(0.04, 0.14, text, transform=axes.transAxes, va="bottom", fontsize=20, fontweight="bold", color=colour)
    if shown.lines:
        _spark(axes, shown.lines[0].points, colour)


def _spark(axes: Any, points: Sequence[tuple[float, float]], colour: str) -> None:
    """Draws the time before the last value, small, in the right half."""
    times, values = [at for at, _ in points], [value if isfinite(value) else nan for _, value in points]
    small = axes.inset_axes((0.52, 0.12, 0.44, 0.4))
    small.fill_between(times, values, color=colour, alpha=0.15, linewidth=0)
    small.plot(times, values, color=colour, linewidth=1)
    small.set_ylim(0, max(filter(isfinite, values), default=0) * 1.1 or 1)
    small.margins(x=0)
    small.axis("off")


def _lines(place: _Place, shown: Shown) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    names = shown.lines[:_NAMES_A_LEGEND]
    columns = 1 if any(len(line.name) > _WIDE_NAME for line in names) else 3
    below = (0.5 + _NAME_INCHES * -(-len(names) // columns)) / place.inches
    axes = place.axes(0.14, below, 0.81, 0.9 - below)
    axes.set_title(shown.panel.title, loc="left", fontsize=10.5, fontweight="bold", color=_INK)
    _curves(axes, shown, place.period)
    _marked(axes, place)
    axes.set_xlim(0, place.period.end - place.period.start)
    headroom = _HEADROOM_FOR_MARKS if place.marks else _HEADROOM
    axes.set_ylim(0, axes.get_ylim()[1] * headroom if shown.lines else 1)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:.0f} s"))
    ticks = _ticks(axes.get_ylim()[1], shown.panel.unit)
    axes.yaxis.set_major_locator(
        MaxNLocator(_MOST_TICKS, integer=shown.panel.unit in _WHOLE) if ticks is None else FixedLocator(ticks)
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: spoken(value, shown.panel.unit)))
    axes.tick_params(labelsize=8, colors=_FAINT, length=0)
    axes.grid(color=_EDGE, linewidth=0.6, alpha=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_EDGE)
    if names:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles[:_NAMES_A_LEGEND],
            labels[:_NAMES_A_LEGEND],
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.26 / (place.inches * (0.9 - below))),
            ncols=columns,
            fontsize=8,
            frameon=False,
            labelcolor=_INK,
            handlelength=1.2,
            columnspacing=1.2,
            labelspacing=0.25,
            borderaxespad=0,
            borderpad=0,
        )


def _curves(axes: Any, shown: Shown, period: Period) -> None:
    if not shown.lines:
        axes.text(0.5, 0.5, "nothing", transform=axes.transAxes, ha="center", va="center", color=_FAINT)
    curves = [_broken_at_gaps(line.points, period) for line in shown.lines]
    if shown.panel.stacked and curves:
        times = sorted({at for at_times, _ in curves for at in at_times})
        by_time = [dict(zip(at_times, values, strict=True)) for at_times, values in curves]
        stack = [[values.get(at, 0.0) for at in times] for values in by_time]
        axes.stackplot(times, *stack, labels=[line.name for line in shown.lines], colors=_COLOURS, alpha=0.75)
        return
    for number, (line, (times, values)) in enumerate(zip(shown.lines, curves, strict=True)):
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(times, values, label=line.name, color=colour, linewidth=1.7, solid_capstyle="round")
        axes.fill_between(times, values, color=colour, alpha=0.07, linewidth=0)


def _broken_at_gaps(points: Sequence[tuple[float, float]], period: Period) -> tuple[list[float], list[float]]:
    """Returns times and values of a line that is not drawn where Prometheus had no answer."""
    times: list[float] = []
    values: list[float] = []
    for at, value in points:
        if times and at - period.start - times[-1] > 1.5 * period.step_s:
            times.append(times[-1] + period.step_s)
            values.append(nan)
        times.append(at - period.start)
        values.append(value if isfinite(value) else nan)
    return times, values


def _ticks(top: float, unit: str) -> list[float] | None:
    """Returns round numbers of bytes; None for units whose round numbers are the decimal ones."""
    if unit not in ("bytes", "Bps") or top <= 1:
        return None
    step = 2.0 ** ceil(log2(top / _MOST_TICKS))
    return [step * number for number in range(int(top // step) + 1)]


def _marked(axes: Any, place: _Place) -> None:
    """Draws what happened as lines over the whole height, each with its words."""
    for number, mark in enumerate(place.marks):
        at = mark.at - place.period.start
        axes.axvline(at, color=_INK, linewidth=1, linestyle=":")
        axes.annotate(
            mark.what,
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -9 - 10 * (number % 3)),
            textcoords="offset points",
            fontsize=7.5,
            color=_INK,
            bbox={"facecolor": _PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        )
