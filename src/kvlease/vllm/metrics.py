"""kvlease's figures on the engine's own /metrics endpoint (R17).

They go with vLLM's NIXL statistics from workers and scheduler to the API server; `kvlease.metrics.catalogue` says what
each means, and `kvlease.admin.figures` where it comes from.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY

from kvlease.admin.figures import Key
from kvlease.engine.producer import UNREAD
from kvlease.metrics.catalogue import COUNTERS, GAUGES, HISTOGRAMS, METRICS
from kvlease.metrics.histogram import Added, add_up, observe_into, values
from kvlease.metrics.metric import Kind
from kvlease.vllm.compat import NixlKVConnectorStats, NixlPromMetrics

if TYPE_CHECKING:
    from vllm.config import VllmConfig

    from kvlease.admin.figures import EngineFigures, WorkersFigures
    from kvlease.agent.loop import LeaseAgent
    from kvlease.engine.consumer import ConsumerSide
    from kvlease.engine.producer import ProducerSide

PERIOD_S = 0.25
"""The least time between two reports of the scheduler half, so that metrics do not slow down steps."""
_OWN = ("kvlease_counts", "kvlease_gauges", "kvlease_histograms")
_TOLD_ALONG = "agent_lag_seconds"
"""The histogram that is no reason to tell by itself: there is always more of it, and vLLM's log has a line whenever
anything is told."""
_UNTOLD_IN_LOG = ("messages_", "message_bytes_", "renewals", "late")
"""The beginnings of the counters that vLLM's periodic log line leaves out: they count in all good times."""


class LeaseStats(NixlKVConnectorStats):
    """vLLM's NIXL statistics with kvlease's beside them.

    `data["kvlease_counts"]` and `data["kvlease_gauges"]` map "name|label value" to increments and to values,
    `data["kvlease_histograms"]` maps names to what was added to their buckets: plain dicts, since they are serialized
    on the way.
    """

    def reset(self) -> None:
        super().reset()
        for own in _OWN:
            self.data[own] = {}

    def count(self, name: str, label: str = "", amount: int = 1) -> None:
        assert name in COUNTERS, name
        counts = self.data["kvlease_counts"]
        key = f"{name}|{label}"
        counts[key] = counts.get(key, 0) + amount

    def set_gauge(self, name: str, label: str, value: float) -> None:
        assert name in GAUGES, name
        self.data["kvlease_gauges"][f"{name}|{label}"] = value

    def observe(self, name: str, value: float) -> None:
        """Adds a value to a histogram."""
        observe_into(self.data["kvlease_histograms"].setdefault(name, {}), HISTOGRAMS[name].buckets, value)

    def add(self, name: str, added: Added) -> None:
        """Takes what was added to a histogram since the last report."""
        assert name in HISTOGRAMS, name
        self.data["kvlease_histograms"][name] = added

    def is_empty(self) -> bool:
        # This is asked in every step; all values are lists and dicts.
        return not any(self.data.values())

    def aggregate(self, other: Any) -> "LeaseStats":
        # An object made from the data of vLLM's own statistics has nothing of ours in it yet.
        counts, gauges, histograms = (self.data.pop(own, {}) for own in _OWN)
        theirs = dict(other.data)
        for key, amount in theirs.pop("kvlease_counts", {}).items():
            counts[key] = counts.get(key, 0) + amount
        gauges |= theirs.pop("kvlease_gauges", {})
        add_up(histograms, theirs.pop("kvlease_histograms", {}))
        super().aggregate(NixlKVConnectorStats(data=theirs))
        self.data |= zip(_OWN, (counts, gauges, histograms), strict=True)
        return self

    def reduce(self) -> dict[str, int | float]:
        """Returns the content of vLLM's periodic log line."""
        counts = self.data.get("kvlease_counts", {})
        ours: dict[str, int | float] = {
            f"kvlease {_spoken(key)}": value
            for key, value in sorted(counts.items())
            if not key.startswith(_UNTOLD_IN_LOG)
        }
        leases = self.data.get("kvlease_gauges", {}).get("active_leases|")
        if leases is not None:
            ours["kvlease active leases"] = leases
        stock: dict[str, int | float] = super().reduce()
        return stock | ours


def _key(text: str) -> Key:
    name, _, label = text.partition("|")
    return name, label


def _spoken(key: str) -> str:
    name, label = _key(key)
    return " ".join(filter(None, (name.replace("_", " "), label)))


def note_workers(figures: "WorkersFigures", stats: Any) -> None:
    """Notes what workers tell vLLM, on its way through the scheduler, for pages that are not vLLM's.

    `stats`: theirs of one step, together; with MultiConnector those of several connectors by name.
    """
    if not isinstance(stats, LeaseStats):
        # vLLM's own have plain lists there.
        for child in stats.data.values():
            if isinstance(child, LeaseStats):
                note_workers(figures, child)
        return
    data = stats.data
    counts: Mapping[str, int] = data.get("kvlease_counts", {})
    figures.add({_key(key): amount for key, amount in counts.items()}, data.get("kvlease_histograms", {}))


class SchedulerStatsFeed:
    """Turns the figures of agent, producer and consumer into increments for `LeaseStats`."""

    def __init__(
        self, agent: "LeaseAgent", producer: "ProducerSide", consumer: "ConsumerSide", figures: "EngineFigures"
    ) -> None:
        self._agent = agent
        self._figures = figures
        self._producer = producer
        self._consumer = consumer
        self._told: Counter[Key] = Counter()
        self._gauges: dict[Key, float] = {}
        self._next_at = 0.0
        self._told_of = 0

    def hasten(self) -> None:
        """Makes the next call of `take` tell, however soon that is."""
        self._next_at = 0.0

    def take(self) -> LeaseStats | None:
        """Returns what changed since the last report; None when nothing did, or when it is too soon.

        It is never too soon when the last lease has gone: an engine that has nothing left to do makes no further step
        in which it could tell.
        """
        producer, consumer, now = self._producer, self._consumer, time.monotonic()
        # The order of these, and that nothing is called for them, is for the steps that tell nothing: nearly all.
        if now < self._next_at and (
            producer.blocks.held_leases
            or consumer.waiting
            or producer.ended + producer.cleared + consumer.released == self._told_of
        ):
            return None
        self._next_at = now + PERIOD_S
        self._told_of = producer.ended + producer.cleared + consumer.released
        stats = LeaseStats()
        report = self._agent.report()
        self._agent.has_told(report)
        totals = self._figures.totals(report)
        for (name, label), total in (totals - self._told).items():
            stats.count(name, label, total)
            if name == "lease_ends" and label in UNREAD:
                # vLLM's own counter goes on, for the alerts that people have on it (R38, vllm 32340).
                for _ in range(total):
                    stats.record_kv_expired_req()
        self._told = totals
        gauges = self._figures.gauges(report)
        if gauges != self._gauges:
            self._gauges = gauges
            for (name, label), value in gauges.items():
                stats.set_gauge(name, label, value)
        times = self._figures.times.histograms
        for name, histogram in times.items():
            if name != _TOLD_ALONG and (added := histogram.take()):
                stats.add(name, added)
        if stats.is_empty():
            return None
        if added := times[_TOLD_ALONG].take():
            stats.add(_TOLD_ALONG, added)
        return stats


_registered: list[Any] = []
"""The collectors of the last engine in this process. When another one starts, vLLM unregisters its own by name."""


def _take_back() -> None:
    for collector in _registered:
        # Ray's collectors are not registered there.
        with suppress(KeyError):
            REGISTRY.unregister(collector)
    _registered.clear()


class LeasePromMetrics(NixlPromMetrics):
    """vLLM's NIXL metrics, and `kvlease:…` beside them."""

    def __init__(
        self,
        vllm_config: "VllmConfig",
        metric_types: dict[Any, Any],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        _take_back()
        self._lease_metrics: dict[str, Any] = {}
        for name, metric in METRICS.items():
            known = {
                "name": f"kvlease:{name}",
                "documentation": metric.meaning,
                "labelnames": labelnames + [metric.label] * bool(metric.label),
            }
            if metric.kind is Kind.COUNTER:
                self._lease_metrics[name] = self._counter_cls(**known)
            elif metric.kind is Kind.GAUGE:
                self._lease_metrics[name] = self._gauge_cls(**known, multiprocess_mode="mostrecent")
            else:
                self._lease_metrics[name] = self._histogram_cls(**known, buckets=list(metric.buckets))
        _registered.extend(self._lease_metrics.values())
        # Each series is there from the start, so that a rate can be taken of the first event, too.
        for engine in per_engine_labelvalues:
            for name, label in _series():
                self._child(name, label, engine)
            # An engine tells figures in steps, and makes none before the first request. If its agent dies it makes one.
            self._child("agent_up", "", engine).set(1)

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        super().observe(transfer_stats_data, engine_idx)
        for key, amount in transfer_stats_data.get("kvlease_counts", {}).items():
            self._child(*_key(key), engine_idx).inc(amount)
        for key, value in transfer_stats_data.get("kvlease_gauges", {}).items():
            self._child(*_key(key), engine_idx).set(value)
        for name, added in transfer_stats_data.get("kvlease_histograms", {}).items():
            child = self._child(name, "", engine_idx)
            for value, times in values(HISTOGRAMS[name].buckets, added):
                for _ in range(times):
                    child.observe(value)

    def _child(self, name: str, label: str, engine_idx: int) -> Any:
        engine = [str(value) for value in self.per_engine_labelvalues[engine_idx]]
        return self._lease_metrics[name].labels(*engine, *([label] if label else []))


def _series() -> Iterator[Key]:
    """Yields every metric with each value of its label."""
    for name, metric in METRICS.items():
        for label in metric.values or ("",):
            yield name, label
