"""An engine's figures as text for Prometheus: the page of the agent's own listener.

It has the same series as vLLM's page, and shows them as they are now, also where the engine is idle. It has those of
kvlease alone.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from kvlease.admin.figures import EngineFigures
from kvlease.metrics.catalogue import METRICS
from kvlease.metrics.histogram import Histogram
from kvlease.metrics.metric import PREFIX, Kind, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of the page."""


def page(figures: EngineFigures, labels: Mapping[str, str]) -> bytes:
    """Returns the page, with `labels` on every series: those of vLLM's page are `model_name` and `engine`."""
    # Imported late: an engine brings it, and whoever only reads figures need not have it.
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(figures, labels))
    text: bytes = generate_latest(registry)
    return text


class _Collector:
    """The figures of an engine as a collector of prometheus_client."""

    def __init__(self, figures: EngineFigures, labels: Mapping[str, str]) -> None:
        self._figures = figures
        self._labels = labels

    def describe(self) -> list[Any]:
        """Describes nothing ahead, so that the figures are read only once."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yields every metric of the catalogue, with all values of its label."""
        totals, gauges, histograms = self._figures.now()
        for name, metric in METRICS.items():
            if metric.kind is Kind.HISTOGRAM:
                yield self._histogram(metric, histograms[name])
            else:
                numbers = totals if metric.kind is Kind.COUNTER else gauges
                yield self._family(metric, {value: numbers.get((name, value), 0) for value in metric.values or ("",)})

    def _family(self, metric: Metric, numbers: Mapping[str, float]) -> Any:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
        own = [metric.label] * bool(metric.label)
        family = kind(PREFIX + metric.name, metric.meaning, labels=[*self._labels, *own])
        for value, number in numbers.items():
            family.add_metric([*self._labels.values(), *([value] if own else [])], number)
        return family

    def _histogram(self, metric: Metric, histogram: Histogram) -> Any:
        from prometheus_client.core import HistogramMetricFamily
        from prometheus_client.utils import floatToGoString

        cells = histogram.cells()
        bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
        buckets = list(zip(bounds, accumulate(count for count, _ in cells), strict=True))
        family = HistogramMetricFamily(PREFIX + metric.name, metric.meaning, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), buckets, sum(total for _, total in cells))
        return family
