"""The router: what follows from each failure, its settings, and its metrics (`kvlease.router`)."""

from collections.abc import Iterator

from docs.made.markdown import code, number, table
from kvlease.metrics.metric import Kind
from kvlease.router.catalogue import ANY, ROUTER_METRICS, RouterMetric
from kvlease.router.catalogue import FAILURES as SAID
from kvlease.router.failures import FAILURES, EngineFailure, FailureRule
from kvlease.router.settings import NUMBERS, NumberSetting, default_of


def failures() -> Iterator[str]:
    """Every way in which a call to an engine fails, and what follows while the client has no token yet."""
    rows = (
        (code(failure), SAID[failure], _again(rule), _breaker(rule), _client(failure, rule))
        for failure, rule in FAILURES.items()
    )
    head = ("failure", "is", "the request is sent again", "counts for the engine's breaker", "at last the client gets")
    return table(head, rows)


def _again(rule: FailureRule) -> str:
    if not rule.retried:
        return "never"
    return "to another engine; to the same where there is no other" if rule.same_engine else "to another engine"


def _breaker(rule: FailureRule) -> str:
    if not rule.breaker:
        return "no"
    return "yes" if rule.opens else "beside others; alone it never opens it"


def _client(failure: EngineFailure, rule: FailureRule) -> str:
    if failure in (EngineFailure.REFUSED, EngineFailure.ERROR):
        return "the engine's own answer"
    return f"{rule.status}, {code(rule.kind)}"


def settings() -> Iterator[str]:
    """Every setting that is a number."""
    rows = ((code(each.flag), number(default_of(each.name)), _allowed(each), each.meaning) for each in NUMBERS)
    return table(("option", "default", "allowed", "is the"), rows)


def _allowed(setting: NumberSetting) -> str:
    return f"{number(setting.low)} to {number(setting.high)}{' ' + setting.unit if setting.unit else ''}"


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
            for value, meaning in meanings.items():
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
