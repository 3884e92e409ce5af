"""The curves of a benchmark as PNG: the median, and the quartiles as a band."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proof.bench.frame.figures import Curves

_COLOURS = {"stock": "#c0392b", "kvlease": "#1f6fb2"}
_OTHER_COLOURS = ("#27916b", "#8e5ea2", "#b8860b", "#555555")
_INCHES = (7.0, 4.2)
_DPI = 150


def draw(name: str, title: str, curves: Sequence[Curves], directory: Path) -> list[Path]:
    """Writes `<name>.png`, then `<name>-2.png` and so on. Returns what was written."""
    if not curves:
        return []
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for number, plot in enumerate(curves, start=1):
        figure, axes = pyplot.subplots(figsize=_INCHES)
        _draw_curves(axes, plot)
        axes.set_title(title, loc="left", fontweight="bold", wrap=True, fontsize=10)
        figure.tight_layout()
        path = directory / (f"{name}.png" if number == 1 else f"{name}-{number}.png")
        figure.savefig(path, dpi=_DPI)
        pyplot.close(figure)
        written.append(path)
    return written


def _draw_curves(axes: Any, plot: Curves) -> None:
    others = iter(_OTHER_COLOURS * len(plot.series))
    for label, points in plot.series.items():
        colour = _COLOURS.get(label) or next(others)
        x = [at for at, _ in points]
        axes.plot(x, [y.median for _, y in points], label=label, color=colour, linewidth=1.8, marker="o", markersize=4)
        axes.fill_between(x, [y.low for _, y in points], [y.high for _, y in points], color=colour, alpha=0.2)
    if plot.limit is not None:
        axes.axhline(plot.limit, color="black", linewidth=1, linestyle="--", label="goal")
    if plot.log_x:
        axes.set_xscale("log")
    if plot.log_y:
        axes.set_yscale("log")
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
