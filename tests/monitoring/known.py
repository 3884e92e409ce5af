"""Every series that a query may ask for, with its labels and their values."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from kvlease.metrics.catalogue import METRICS
from kvlease.metrics.metric import Kind
from kvlease.router.catalogue import ROUTER_METRICS
from proof.monitoring.rules import recordings

_ANY: frozenset[str] = frozenset()

OF_TARGETS = {"job": _ANY, "instance": _ANY}
"""The labels that Prometheus adds to whatever it scrapes."""
OF_ENGINES = {"model_name": _ANY, "engine": _ANY}
"""The labels that vLLM gives all of its metrics."""
VLLM = ("kv_cache_usage_perc", "num_requests_waiting", "prompt_tokens_total")
"""The metrics of vLLM's own that the queries use."""


@dataclass(frozen=True)
class Series:
    """A series' labels, and the values of each; none where any will do."""

    labels: Mapping[str, Set[str]]


def known() -> dict[str, Series]:
    """Returns every series by its name."""
    found = {"ALERTS": Series({"alertname": _ANY, "alertstate": frozenset(("pending", "firing"))})}
    found |= {f"vllm:{name}": _of_an_engine("", _ANY) for name in VLLM}
    for metric in METRICS.values():
        if metric.kind is Kind.HISTOGRAM:
            found[f"{metric.shown}_bucket"] = _of_an_engine("le", frozenset(bounds(metric.buckets)))
            found |= {f"{metric.shown}_{part}": _of_an_engine("", _ANY) for part in ("sum", "count")}
        else:
            found[metric.shown] = _of_an_engine(metric.label, metric.values.keys())
    for of_router in ROUTER_METRICS.values():
        name = of_router.shown + "_bucket" * (of_router.kind is Kind.HISTOGRAM)
        found[name] = Series(OF_TARGETS | {label: frozenset(values) for label, values in of_router.labels.items()})
    for rule in recordings():
        # Those of a level "engine" keep the labels of their engine; the others are of all engines.
        found[rule.name] = Series(OF_TARGETS | OF_ENGINES if rule.name.startswith("engine:") else {})
    return found


def bounds(buckets: tuple[float, ...]) -> list[str]:
    """Returns the values of a histogram's label `le`, from the lowest."""
    return [*map(str, buckets), "+Inf"]


def _of_an_engine(label: str, values: Set[str]) -> Series:
    return Series(OF_TARGETS | OF_ENGINES | ({label: values} if label else {}))
