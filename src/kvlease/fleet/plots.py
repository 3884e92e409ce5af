"""The report's plots, as SVG in data URLs, so that the report is one file."""

import base64
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from kvlease.fleet.outcome import FleetOutcome, Timeline

COLOURS = ("#7f8c8d", "#d68910", "#c0392b", "#1f6fb2", "#27916b", "#8e44ad")
"""The colours of policies in their order: flat ones, vLLM's lease, kvlease."""
_INCHES = (12.0, 6.4)

Curve = Callable[[FleetOutcome], Sequence[float]]


def _share_of_memory(outcome: FleetOutcome) -> list[float]:
    return [100.0 * blocks / outcome.blocks.capacity for blocks in outcome.timeline.stranded_blocks]


def _per_second(pick: Callable[[Timeline], Sequence[float]]) -> Curve:
    return lambda outcome: [number / outcome.timeline.part_s for number in pick(outcome.timeline)]


_PANELS: Sequence[tuple[str, str, Curve]] = (
    ("Stranded memory", "% of prefill engines' KV memory", _share_of_memory),
    ("Goodput", "right answers in time, a second", _per_second(lambda line: line.good)),
    ("Requests without a first token", "requests", lambda outcome: outcome.timeline.waiting),
    ("Lease traffic", "kB a second", _per_second(lambda line: [number / 1000.0 for number in line.bytes])),
)


def over_time(outcomes: Sequence[FleetOutcome]) -> str:
    """Returns a plot as a data URL: four panels over simulated time, a curve for each policy."""
    figure, grid = _figure(2, 2)
    for axes, (title, unit, curve) in zip(grid, _PANELS, strict=True):
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        axes.set_ylabel(unit, fontsize=8)
        for number, outcome in enumerate(outcomes):
            values = curve(outcome)
            times = [part * outcome.timeline.part_s for part in range(len(values))]
            # Later curves are thinner, so that equal ones can all be seen.
            axes.plot(
                times, values, label=outcome.policy, color=_colour(number), linewidth=max(2.6 - 0.5 * number, 0.9)
            )
        _mark_faults(axes, outcomes[0].timeline)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
    for axes in grid[2:]:
        axes.set_xlabel("simulated seconds", fontsize=8)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9)
    return _as_url(figure)


def _mark_faults(axes: Any, line: Timeline) -> None:
    """Draws a tick at the bottom for each part of the time in which an engine died or stood still."""
    at = [
        part * line.part_s
        for part, (dead, still) in enumerate(zip(line.crashes, line.stalls, strict=True))
        if dead + still
    ]
    if at and len(at) < len(line.crashes) / 2:
        axes.plot(
            at, [0.0] * len(at), "|", color="black", markersize=7, transform=axes.get_xaxis_transform(), clip_on=False
        )


def scatter(points: Sequence[tuple[str, float, float]], x: str, y: str, chosen: int | None) -> str:
    """Returns a plot as a data URL: named points, with that of number `chosen` highlighted."""
    figure, (axes,) = _figure(1, 1, (7.0, 4.2))
    for number, (name, right, up) in enumerate(points):
        colour = COLOURS[3] if number == chosen else COLOURS[0]
        axes.plot([right], [up], "o", color=colour)
        axes.annotate(name, (right, up), xytext=(5, 4), textcoords="offset points", fontsize=8, color=colour)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    return _as_url(figure)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _figure(rows: int, columns: int, inches: tuple[float, float] = _INCHES) -> tuple[Any, list[Any]]:
    # pyplot is not used, since it keeps every figure until it is closed.
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _as_url(figure: Any) -> str:
    import matplotlib as mpl

    figure.tight_layout(rect=(0, 0.05, 1, 1))
    into = BytesIO()
    # With a fixed salt, the same outcome makes the same bytes.
    with mpl.rc_context({"svg.hashsalt": "kvlease"}):
        figure.savefig(into, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(into.getvalue()).decode()
