"""The plot: blocks in use on P over time, one panel per scenario, both connectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proof.demo.outcome import ActOutcome, ScenarioName

_COLOURS = {"stock": "#c0392b", "kvlease": "#1f6fb2"}
_PANELS: dict[ScenarioName, tuple[str, str]] = {
    "crash": ("Decoder crash", "seconds after D was killed"),
    "stall": ("Decoder stall", "seconds after D was stopped"),
    "stall-free": ("Stall, P has memory to spare", "seconds after D was stopped"),
    "long-step": ("Long step", "seconds after D's step began"),
    "queue": ("Long queue", "seconds after all requests were queued"),
    "failover": ("Failover, one of two decoders", "seconds after it was killed"),
}
_PANEL_INCHES = (5.2, 3.2)
_COLUMNS = 3
# The time before the fault is shown only as far as it shows the blocks that are held.
_SHOWN_BEFORE_S = 4.0
_DPI = 150
_LEGEND_SHARE = 0.1
# Above the curves, for the names of events.
_HEADROOM = 1.2


def draw(outcomes: Sequence[ActOutcome], path: Path) -> None:
    """Writes a PNG with a panel for every scenario that was played."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    played = [name for name in _PANELS if any(outcome.scenario == name for outcome in outcomes)]
    rows = -(-len(played) // _COLUMNS)
    columns = min(len(played), _COLUMNS)
    width, height = _PANEL_INCHES
    figure, grid = pyplot.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    panels = list(grid.flat)
    for name, axes in zip(played, panels, strict=False):
        _draw_panel(axes, name, [outcome for outcome in outcomes if outcome.scenario == name])
    for axes in panels[len(played) :]:
        axes.remove()
    panels = panels[: len(played)]
    # Every curve's name once, under all panels, where it covers none of them.
    named = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="lower center", ncols=len(named), frameon=False)
    figure.tight_layout(rect=(0, _LEGEND_SHARE / rows, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def _draw_panel(axes: Any, name: ScenarioName, outcomes: Sequence[ActOutcome]) -> None:
    title, time_label = _PANELS[name]
    axes.set_title(f"{title} (lease {outcomes[0].lease_s:g} s)", loc="left", fontweight="bold")
    axes.set_xlabel(time_label)
    axes.set_ylabel("blocks in use on P")
    axes.axvline(0, color="black", linewidth=1, linestyle=":")
    for outcome in outcomes:
        points = [(at, held) for at, held in outcome.held if at >= -_SHOWN_BEFORE_S]
        colour = _COLOURS[outcome.connector]
        axes.step(*zip(*points, strict=True), where="post", label=outcome.connector, color=colour, linewidth=1.8)
        _mark_events(axes, outcome)
    axes.set_ylim(0, axes.get_ylim()[1] * _HEADROOM)
    axes.margins(x=0.01)
    axes.grid(alpha=0.25)


def _mark_events(axes: Any, outcome: ActOutcome) -> None:
    """Marks when D began to read: the blocks that are in use then decide over its answers."""
    for event in outcome.events:
        if event.decides:
            colour = _COLOURS[outcome.connector]
            axes.axvline(event.at_s, color=colour, linewidth=1, linestyle="--", alpha=0.7)
            axes.annotate(
                event.what,
                (event.at_s, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(-4, -11 if outcome.connector == "stock" else -22),
                textcoords="offset points",
                ha="right",
                color=colour,
                fontsize=8,
            )
