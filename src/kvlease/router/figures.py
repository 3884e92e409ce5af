"""The figures of a router, counted where things happen, and its /metrics page.

What is true of an engine at the moment is asked for when the page is: an engine that has left leaves no series behind.
It needs the package prometheus_client.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from kvlease.metrics.metric import Kind
from kvlease.router.catalogue import ANY, CONDITIONS, PREFIX, ROLES, ROUTER_METRICS, RouterMetric
from kvlease.router.facts import (
    BudgetEmpty,
    CallFailed,
    LeaseReleased,
    PromptRecomputed,
    ReferenceHandedOn,
    RequestOver,
    RequestRetried,
    RouterFact,
    StreamContinued,
    WholePromptSent,
)
from kvlease.router.failures import EngineFailure

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of the page."""


class EngineFigure(NamedTuple):
    """One engine as the page shows it."""

    url: str
    role: str
    """"prefill" or "decode"."""
    condition: str
    """One of `catalogue.CONDITIONS`."""
    in_flight: int


Look = Callable[[], Iterable[EngineFigure]]
"""Returns all engines as they are now."""


class RouterFigures:
    """The counters, gauges and histograms of one router, each with all values of its labels from the start."""

    def __init__(self, engines: Look = tuple) -> None:
        self._registry = CollectorRegistry()
        self._kept = {
            name: _kept(metric, self._registry) for name, metric in ROUTER_METRICS.items() if not _is_looked_up(metric)
        }
        self._children: dict[tuple[str, ...], Any] = {}
        self._failures: Counter[str] = Counter()
        self._registry.register(_Engines(engines, self._failures))

    def hear(self, fact: RouterFact) -> None:
        """Counts a fact of a request (`RoutedRequest` takes this as `tell`)."""
        match fact:
            case CallFailed(role, failure, engine):
                self.count("call_failures", role, failure)
                if failure is not EngineFailure.REFUSED:
                    self._failures[engine] += 1
            case RequestRetried(role, failure):
                self.count("retries", role, failure)
            case ReferenceHandedOn(failure):
                self.count("handed_on", failure)
            case PromptRecomputed(why):
                self.count("second_prefills", why)
            case WholePromptSent(why):
                self.count("whole_prompts", why)
            case LeaseReleased(why):
                self.count("releases", why)
            case StreamContinued(failure):
                self.count("continued_streams", failure)
            case BudgetEmpty():
                self.count("budget_empty")
            case RequestOver():
                # The driver counts requests: it knows the endpoint, and those that never began.
                pass

    def count(self, name: str, *values: str, by: int = 1) -> None:
        """Adds to a counter; `values` are those of its labels, in the catalogue's order."""
        self._child(name, values).inc(by)

    def set(self, name: str, value: float, *values: str) -> None:
        """Sets a gauge."""
        self._child(name, values).set(value)

    def observe(self, name: str, seconds: float, *values: str) -> None:
        """Adds a time to a histogram."""
        self._child(name, values).observe(seconds)

    def ask(self, name: str, now: Callable[[], float]) -> None:
        """Has a gauge without labels show whatever `now` returns when the page is asked for."""
        self._kept[name].set_function(now)

    def value(self, name: str, *values: str) -> float:
        """Returns a counter's or gauge's value."""
        metric = ROUTER_METRICS[name]
        labels = dict(zip(metric.labels, values, strict=True))
        return float(self._registry.get_sample_value(metric.shown, labels) or 0.0)

    def page(self) -> bytes:
        """Returns the page as text for Prometheus."""
        text: bytes = generate_latest(self._registry)
        return text

    def _child(self, name: str, values: tuple[str, ...]) -> Any:
        key = (name, *values)
        if (child := self._children.get(key)) is None:
            _check(name, values)
            metric = self._kept[name]
            child = self._children[key] = metric.labels(*values) if values else metric
        return child


def _check(name: str, values: tuple[str, ...]) -> None:
    # A series that nobody has described is a bug, and one for each client's word would be a leak.
    for value, allowed in zip(values, ROUTER_METRICS[name].labels.values(), strict=True):
        if value not in allowed:
            raise ValueError(f"{name} has no value {value!r}; it has {', '.join(allowed)}")


def _is_looked_up(metric: RouterMetric) -> bool:
    return ANY in metric.labels.values() or metric.name == "engines"


def _kept(metric: RouterMetric, registry: CollectorRegistry) -> Any:
    name, labels = PREFIX + metric.name, list(metric.labels)
    if metric.kind is Kind.HISTOGRAM:
        made: Any = Histogram(name, metric.meaning, labels, registry=registry, buckets=metric.buckets)
    else:
        made = (prometheus_client.Counter if metric.kind is Kind.COUNTER else Gauge)(
            name, metric.meaning, labels, registry=registry
        )
    # Each series is there from the start, so that a rate over it sees its first rise.
    for values in product(*metric.labels.values()):
        if values:
            made.labels(*values)
    return made


class _Engines:
    """The figures of engines, as a collector of prometheus_client."""

    def __init__(self, engines: Look, failures: "Counter[str]") -> None:
        self._engines = engines
        self._failures = failures

    def describe(self) -> list[Any]:
        """Describes nothing ahead, so that engines are asked for only when the page is."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yields all metrics that name an engine, and the number of engines by condition."""
        engines = list(self._engines())
        numbers = dict.fromkeys(product(ROLES, CONDITIONS), 0)
        for engine in engines:
            numbers[engine.role, engine.condition] += 1
        yield _family("engines", {key: float(number) for key, number in numbers.items()})
        known = {engine.url for engine in engines}
        for url in [url for url in self._failures if url not in known]:
            del self._failures[url]
        yield _family("engine_failures", {(each.url, each.role): float(self._failures[each.url]) for each in engines})
        for name, value in _OF_ENGINE.items():
            yield _family(name, {(engine.url, engine.role): value(engine) for engine in engines})


_OF_ENGINE: Mapping[str, Callable[[EngineFigure], float]] = {
    "engine_up": lambda engine: float(engine.condition == "up"),
    "engine_in_flight": lambda engine: engine.in_flight,
}


def _family(name: str, numbers: Mapping[tuple[str, ...], float]) -> Any:
    metric = ROUTER_METRICS[name]
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(PREFIX + name, metric.meaning, labels=list(metric.labels))
    for values, number in numbers.items():
        family.add_metric(list(values), number)
    return family
