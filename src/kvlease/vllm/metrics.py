"""kvlease's counters and gauges on the engine's own /metrics endpoint (R17).

They go with vLLM's NIXL statistics from workers and scheduler to the API server; `catalogue` says what each means.
"""

import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY

from kvlease.engine.producer import UNREAD
from kvlease.metrics.catalogue import COUNTERS, GAUGES
from kvlease.vllm.compat import NixlKVConnectorStats, NixlPromMetrics

if TYPE_CHECKING:
    from vllm.config import VllmConfig

    from kvlease.agent.core import AgentReport
    from kvlease.agent.loop import LeaseAgent
    from kvlease.engine.consumer import ConsumerSide
    from kvlease.engine.producer import ProducerSide

PERIOD_S = 0.25
"""The least time between two reports of the scheduler half, so that metrics do not slow down steps."""

Key = tuple[str, str]
"""A metric, and the value of its label, or "" where it has none."""


class LeaseStats(NixlKVConnectorStats):
    """vLLM's NIXL statistics with kvlease's beside them.

    `data["kvlease_counts"]` and `data["kvlease_gauges"]` map "name|label value" to increments and to values: plain
    dicts, since they are serialized on the way.
    """

    def reset(self) -> None:
        super().reset()
        self.data["kvlease_counts"] = {}
        self.data["kvlease_gauges"] = {}

    def count(self, name: str, label: str = "", amount: int = 1) -> None:
        assert name in COUNTERS, name
        counts = self.data["kvlease_counts"]
        key = f"{name}|{label}"
        counts[key] = counts.get(key, 0) + amount

    def set_gauge(self, name: str, label: str, value: float) -> None:
        assert name in GAUGES, name
        self.data["kvlease_gauges"][f"{name}|{label}"] = value

    def is_empty(self) -> bool:
        # This is asked in every step; all values are lists and dicts.
        return not any(self.data.values())

    def aggregate(self, other: Any) -> "LeaseStats":
        # An object made from the data of vLLM's own statistics has nothing of ours in it yet.
        counts, gauges = self.data.pop("kvlease_counts", {}), self.data.pop("kvlease_gauges", {})
        theirs = dict(other.data)
        for key, amount in theirs.pop("kvlease_counts", {}).items():
            counts[key] = counts.get(key, 0) + amount
        gauges |= theirs.pop("kvlease_gauges", {})
        super().aggregate(NixlKVConnectorStats(data=theirs))
        self.data["kvlease_counts"], self.data["kvlease_gauges"] = counts, gauges
        return self

    def reduce(self) -> dict[str, int | float]:
        """Returns the content of vLLM's periodic log line."""
        counts = self.data.get("kvlease_counts", {})
        ours: dict[str, int | float] = {f"kvlease {_spoken(key)}": value for key, value in sorted(counts.items())}
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


class SchedulerStatsFeed:
    """Turns the counts of agent, producer and consumer into increments for `LeaseStats`."""

    def __init__(
        self, agent: "LeaseAgent", producer: "ProducerSide", consumer: "ConsumerSide", counts: "Counter[str]"
    ) -> None:
        """`counts`: events that vLLM's half of the scheduler counts itself, `refused.<kind>`."""
        self._agent = agent
        self._counts = counts
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
        totals = self._totals(report)
        for (name, label), total in (totals - self._told).items():
            stats.count(name, label, total)
            if name == "lease_ends" and label in UNREAD:
                # vLLM's own counter goes on, for the alerts that people have on it (R38, vllm 32340).
                for _ in range(total):
                    stats.record_kv_expired_req()
        self._told = totals
        gauges = self._read_gauges(report)
        if gauges != self._gauges:
            self._gauges = gauges
            for (name, label), value in gauges.items():
                stats.set_gauge(name, label, value)
        return None if stats.is_empty() else stats

    def _totals(self, report: "AgentReport") -> Counter[Key]:
        lessor, lessee = report.lessor, report.lessee
        totals: Counter[Key] = Counter()
        totals["grants", ""] = lessor.get("grants", 0)
        totals["claims", ""] = lessor.get("claims", 0)
        totals["crash_reclaims", ""] = self._producer.counts["ends.orphaned"]
        totals["reclaimed_blocks", ""] = self._producer.counts["reclaimed_blocks"]
        totals["renewals", "received"] = lessor.get("renewals", 0)
        totals["renewals", "sent"] = lessee.get("renewals", 0)
        totals["lost_leases", ""] = lessee.get("lost", 0)
        totals["unfenced_reads", ""] = self._producer.counts["unfenced_reads"]
        totals["refused", "bad_reference"] = self._consumer.bad_references
        totals["transport_failures", "send"] = report.agent.get("sends_failed", 0)
        totals["transport_failures", "connect"] = report.agent.get("connects_failed", 0)
        _collect(totals, "lease_ends", "ends.", self._producer.counts)
        _collect(totals, "declined_offers", "declined.", self._producer.counts)
        _collect(totals, "late_claims", "late_claims.", self._producer.counts)
        for differs, requests in self._consumer.other_prompts.items():
            totals["other_prompts", differs] = requests
        # A copy is read, since another thread counts there.
        for counts in (lessor, lessee, report.agent, dict(self._counts)):
            _collect(totals, "refused", "refused.", counts)
            _collect(totals, "late", "late.", counts)
        return totals

    def _read_gauges(self, report: "AgentReport") -> dict[Key, float]:
        return {
            ("active_leases", ""): self._producer.blocks.held_leases,
            ("held_blocks", ""): self._producer.blocks.held_blocks,
            ("lapsed_leases", ""): self._producer.blocks.lapsed_leases,
            ("lapsed_blocks", ""): self._producer.blocks.lapsed_blocks,
            ("sessions", "consumers"): report.consumers,
            ("sessions", "producers"): report.producers,
            ("fence_slots_used", ""): len(self._producer.slots),
            ("agent_up", ""): int(report.up),
        }


def _collect(totals: "Counter[Key]", name: str, prefix: str, counts: Any) -> None:
    for event, total in counts.items():
        if event.startswith(prefix):
            totals[name, event.removeprefix(prefix)] += total


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
        for name, metric in COUNTERS.items():
            self._lease_metrics[name] = self._counter_cls(
                name=f"kvlease:{name}",
                documentation=metric.meaning,
                labelnames=labelnames + [metric.label] * bool(metric.label),
            )
        for name, metric in GAUGES.items():
            self._lease_metrics[name] = self._gauge_cls(
                name=f"kvlease:{name}",
                documentation=metric.meaning,
                multiprocess_mode="mostrecent",
                labelnames=labelnames + [metric.label] * bool(metric.label),
            )
        _registered.extend(self._lease_metrics.values())
        for name, metric in (COUNTERS | GAUGES).items():
            if not metric.label:
                # A metric without a label of its own is 0 from the start.
                for engine in per_engine_labelvalues:
                    self._child(name, "", engine)

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        super().observe(transfer_stats_data, engine_idx)
        for key, amount in transfer_stats_data.get("kvlease_counts", {}).items():
            self._child(*_key(key), engine_idx).inc(amount)
        for key, value in transfer_stats_data.get("kvlease_gauges", {}).items():
            self._child(*_key(key), engine_idx).set(value)

    def _child(self, name: str, label: str, engine_idx: int) -> Any:
        values = [str(value) for value in self.per_engine_labelvalues[engine_idx]]
        return self._lease_metrics[name].labels(*values, *([label] if label else []))
