"""The settings of `kvlease router`, and its metrics (`kvlease.router.settings`, `kvlease.router.catalogue`)."""

from collections.abc import Iterator

from docs.made.markdown import code, number, table
from kvlease.metrics.metric import Kind
from kvlease.router.catalogue import ANY, ROUTER_METRICS, RouterMetric
from kvlease.router.settings import NUMBERS, NumberSetting, default_of


def settings() -> Iterator[str]:
    """Every setting that is a number."""
    rows = ((code(each.flag), _number(each, default_of(each.name)), _allowed(each), each.meaning) for each in NUMBERS)
    return table(("option", "default", "allowed", "is the"), rows)


def _allowed(setting: NumberSetting) -> str:
    return f"{_number(setting, setting.low)} to {_number(setting, setting.high)} {setting.unit}".rstrip()


def _number(setting: NumberSetting, value: float) -> str:
    # A port is a number that nobody counts with.
    return str(int(value)) if setting.name == "port" else number(value)


def metrics() -> Iterator[str]:
    """Every metric, with its labels and what it means."""
    rows = ((code(metric.shown), metric.kind, _labels(metric), metric.meaning) for metric in ROUTER_METRICS.values())
    return table(("metric", "type", "labels", "meaning"), rows)


def _labels(metric: RouterMetric) -> str:
    return ", ".join(map(code, metric.labels))


def worries() -> Iterator[str]:
    """The look of each metric in good times, and the one to worry about."""
    rows = (
        (code(metric.name), metric.good, metric.worry)
        for metric in ROUTER_METRICS.values()
        if metric.good or metric.worry
    )
    return table(("metric", "in good times", "worry when"), rows)


def values() -> Iterator[str]:
    """The values of each label."""
    named: dict[tuple[str, str, str], list[str]] = {}
    for name, metric in ROUTER_METRICS.items():
        for label, meanings in metric.labels.items():
            if meanings is ANY:
                named.setdefault((label, "", "the engine's URL, as it is named"), []).append(name)
            # Failures have a table of their own.
            for value, meaning in () if label == "failure" else meanings.items():
                named.setdefault((label, value, meaning), []).append(name)
    rows = (
        (code(label), code(value), meaning, "several" if len(names) > 2 else ", ".join(map(code, names)))
        for (label, value, meaning), names in named.items()
    )
    return table(("label", "its value", "is", "of"), rows)


def buckets() -> Iterator[str]:
    """The bounds of each histogram's buckets."""
    rows = (
        (code(metric.shown), " ".join(map(number, metric.buckets)))
        for metric in ROUTER_METRICS.values()
        if metric.kind is Kind.HISTOGRAM
    )
    return table(("histogram", "bounds of its buckets, in seconds"), rows)
