"""An engine that runs: what it has answered."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kvlease.admin.answers import EngineHealth
from kvlease.metrics.catalogue import METRICS
from kvlease.metrics.scraped import Metrics


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """The answers of one URL; several engines with data parallelism."""

    url: str
    unreachable: str | None = None
    """The reason for which nobody answers there."""
    page: Metrics | None = None
    """Its metrics; None where there is no such page."""
    health: Sequence[EngineHealth] = field(default_factory=tuple)
    """The health of each rank; nothing where the admin routes are not served."""
    no_health: str = ""
    """The reason for which there is none."""
    vllm: str | None = None
    """vLLM's version."""

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric of kvlease's, named as on the page, without "kvlease:"."""
        return 0.0 if self.page is None else self.page.value(f"kvlease:{name}", **labels)

    def by_label(self, name: str) -> dict[str, float]:
        """The samples of a metric of the catalogue that are not 0, by the value of its label."""
        metric = METRICS[name]
        return {} if self.page is None else self.page.by_label(metric.shown, metric.label)

    @property
    def produces(self) -> bool:
        """Tells whether it has granted leases."""
        return self.value("grants_total") > 0

    @property
    def consumes(self) -> bool:
        """Tells whether it has read, or waits to read, what others prefilled."""
        return self.value("fence_checks_total") > 0 or self.value("renewals_total", direction="sent") > 0


def host_of(url: str) -> str:
    """Returns the host of a URL."""
    return urlsplit(url).hostname or ""
