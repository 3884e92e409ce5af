"""An engine's metrics at one moment, as its /metrics page gave them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

STOCK_EXPIRED = "vllm:nixl_num_kv_expired_reqs_total"
"""Requests whose blocks were taken back before D had read them (on P, stock)."""
STOCK_READS = "vllm:nixl_xfer_time_seconds_count"
"""Transfers of KV blocks that have ended well (on D)."""
LEASE_ENDS = "kvlease:lease_ends_total"
"""Leases that ended, by `cause` (on P, kvlease)."""
FENCE_CHECKS = "kvlease:fence_checks_total"
"""Reads that were checked, by `verdict` (on D, kvlease)."""
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
CACHE_USAGE = "vllm:kv_cache_usage_perc"
"""The share of blocks in use: between 0 and 1, despite its name."""


@dataclass(frozen=True)
class Sample:
    """One line of the page."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Metrics:
    """All samples of one reading."""

    samples: tuple[Sample, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the Prometheus text format. Raises ValueError for text that is none."""
        # This is one of the demo's libraries; the rest of this package is usable without it.
        from prometheus_client.parser import text_string_to_metric_families

        return cls(
            tuple(
                Sample(sample.name, sample.labels, sample.value)
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            )
        )

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name that carry these labels; 0 where there is none."""
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """The samples of that name, added up by the value of one label; values without any are left out, since some
        counters are there from the start, and others from the first time that they count."""
        sums: dict[str, float] = {}
        for sample in self.samples:
            if sample.name == name and label in sample.labels:
                sums[sample.labels[label]] = sums.get(sample.labels[label], 0.0) + sample.value
        return {value: total for value, total in sums.items() if total}
