"""The dashboard as Grafana shows it: its queries with the variables filled in, and a Prometheus' answers."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

from proof.monitoring.client import PrometheusClient, TimeSeries
from proof.monitoring.rules import FOLDER

_ALL = ".*"
_NAMES = re.compile(r"{{(\w+)}}")
_STEPS = 240
"""The points of a line that is not shorter."""


@dataclass(frozen=True)
class Period:
    """The time that is shown, in seconds of the Unix clock."""

    start: float
    end: float
    scrape_s: float = 1.0
    """The interval at which Prometheus scrapes."""

    @property
    def step_s(self) -> float:
        """The time from one point to the next: no shorter than scraping."""
        return max(self.scrape_s, (self.end - self.start) / _STEPS)

    @property
    def window_s(self) -> float:
        """The window of rates, as Grafana chooses it: four scrapes, so that one may fail."""
        return max(4 * self.scrape_s, self.step_s + self.scrape_s)


@dataclass(frozen=True)
class Asked:
    """A panel with its queries as Prometheus gets them."""

    row: str
    title: str
    unit: str
    number: bool
    stacked: bool
    worry_above: float | None
    queries: tuple[tuple[str, str], ...]
    """Expressions, each with the name of its lines."""


@dataclass(frozen=True)
class Line:
    """A line of a panel."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Shown:
    """A panel with what it shows."""

    panel: Asked
    lines: tuple[Line, ...]


def panels(period: Period) -> Iterator[Asked]:
    """Yields the panels of `monitoring/dashboard.json` that ask for something, for all engines."""
    row = ""
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        elif panel.get("targets"):
            yield _asked(row, panel, period)


def _asked(row: str, panel: Mapping[str, Any], period: Period) -> Asked:
    defaults = panel["fieldConfig"]["defaults"]
    steps = defaults.get("thresholds", {}).get("steps", [])
    stacking = defaults.get("custom", {}).get("stacking", {})
    return Asked(
        row=row,
        title=panel["title"],
        unit=defaults.get("unit", "short"),
        number=panel["type"] == "stat",
        stacked=stacking.get("mode") == "normal",
        worry_above=steps[-1]["value"] if len(steps) > 1 else None,
        queries=tuple((_filled(target["expr"], period), target["legendFormat"]) for target in panel["targets"]),
    )


def _filled(expression: str, period: Period) -> str:
    filled = expression.replace("$__rate_interval", f"{round(period.window_s * 1000)}ms")
    filled = filled.replace("$__range", f"{round((period.end - period.start) * 1000)}ms")
    return re.sub(r"\$(model|instance|engine)\b", _ALL, filled)


def answered(panel: Asked, client: PrometheusClient, period: Period) -> Shown:
    """Asks a panel's queries. Raises NoPrometheus where they are refused."""
    lines = [
        Line(_named(legend, series), series.points)
        for expression, legend in panel.queries
        for series in client.ask_over(expression, period.start, period.end, period.step_s)
        # A quantile of nothing is no number: an engine that is no producer has such lines.
        if any(not isnan(value) for _, value in series.points)
    ]
    return Shown(panel, tuple(lines))


def _named(legend: str, series: TimeSeries) -> str:
    return _NAMES.sub(lambda name: series.labels.get(name[1], ""), legend)
