"""A dashboard's rows and panels, before they are Grafana's."""

from dataclasses import dataclass
from typing import Literal

CHOSEN = 'model_name=~"$model", instance=~"$instance", engine=~"$engine"'
"""The labels of the engines that the reader has chosen, by the dashboard's variables."""
WINDOW = "$__rate_interval"
"""Grafana's own: four times the interval of scraping at least."""
RANK = "{{instance}}/{{engine}}"
"""The name of a line for each engine: its address, and its data-parallel rank."""

Unit = Literal["short", "bytes", "s", "percentunit", "ops", "Bps", "none"]


@dataclass(frozen=True)
class Query:
    """A question to Prometheus, and the name of each series of its answer."""

    expression: str
    legend: str = RANK


@dataclass(frozen=True, kw_only=True)
class DashboardPanel:
    """Lines over time, or one number."""

    title: str
    about: str
    """A sentence or two for whoever asks what it shows, and when to worry."""
    queries: tuple[Query, ...]
    unit: Unit = "short"
    number: bool = False
    """True for the last value alone, in large digits."""
    stacked: bool = False
    worry_above: float | None = None
    """The value above which a number is red."""


@dataclass(frozen=True, kw_only=True)
class DashboardRow:
    """A row of panels that answer one question of an operator."""

    asks: str
    panels: tuple[DashboardPanel, ...]
    note: str = ""
    """Markdown, for what no metric says."""


def chosen(series: str, *labels: str) -> str:
    """Returns the selector of a series of the chosen engines, with further matchers."""
    return f"{series}{{{', '.join((*labels, CHOSEN))}}}"


def kvlease(metric: str, *labels: str) -> str:
    """Returns the selector of one of kvlease's metrics of the chosen engines."""
    return chosen(f"kvlease:{metric}", *labels)


def per_second(metric: str, *labels: str) -> str:
    """Returns the rate of one of kvlease's counters."""
    return f"rate({kvlease(f'{metric}_total', *labels)}[{WINDOW}])"


def in_range(metric: str, *labels: str) -> str:
    """Returns what one of kvlease's counters counted in the time that the dashboard shows; 0 where it has no series."""
    return f"sum(increase({kvlease(f'{metric}_total', *labels)}[$__range])) or vector(0)"


def by(label: str, expression: str) -> str:
    """Returns the sum over the chosen engines for each value of a label."""
    return f"sum by ({label}) ({expression})"


def quantiles(metric: str, *names: str) -> tuple[Query, ...]:
    """Returns recorded quantiles of a histogram, such as p50 and p99."""
    return tuple(Query(chosen(f"engine:kvlease_{metric}:{name}_5m"), f"{name} {RANK}") for name in names)
