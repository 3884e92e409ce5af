"""An engine's metrics at one moment, as its /metrics page gave them.

The page is read by the package prometheus_client, which is needed only when a page is parsed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

ENGINE = "engine"
"""The label by which vLLM tells the data parallel ranks of one page apart."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of the page."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class ScrapedHistogram:
    """A histogram as the page gives it; those of several label sets are added up."""

    bounds: tuple[float, ...]
    """The upper bounds of the buckets, ascending; the last is infinite."""
    cumulative: tuple[float, ...]
    """The number of values that are not above each bound."""
    sum: float
    count: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """All samples of one reading."""

    samples: tuple[Sample, ...]

    @classmethod
    def parse(cls, text: str, only: tuple[str, ...] = ()) -> Self:
        """Reads the Prometheus text format. Raises ValueError for text that is none.

        `only`: the beginnings of the names that are wanted, where the others need not be read. Reading is slow.
        """
        from prometheus_client.parser import text_string_to_metric_families

        if only:
            text = "\n".join(line for line in text.splitlines() if line.startswith(only)) + "\n"

        return cls(
            tuple(
                Sample(sample.name, sample.labels, sample.value)
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            )
        )

    def has(self, name: str) -> bool:
        """Tells whether the page has a sample of that name."""
        return any(sample.name == name for sample in self.samples)

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

    def histogram(self, name: str, **labels: str) -> ScrapedHistogram | None:
        """The histogram of that name (without `_bucket`); None where the page has none with these labels."""
        buckets: dict[float, float] = {}
        for sample in self.samples:
            if sample.name == f"{name}_bucket" and labels.items() <= sample.labels.items():
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
        if not buckets:
            return None
        bounds = tuple(sorted(buckets))
        if bounds[-1] != math.inf:
            raise ValueError(f"the histogram {name} has no bucket le=+Inf: the page was cut off")
        counted = tuple(buckets[bound] for bound in bounds)
        return ScrapedHistogram(bounds, counted, self.value(f"{name}_sum", **labels), counted[-1])

    def agent(self) -> str | None:
        """The state of one engine's lease agent, "up" or "dead"; None where nobody tells it.

        An engine that has made no step yet has reported nothing: all its figures are 0.
        """
        if self.value("kvlease:agent_up"):
            return "up"
        reported = any(sample.value for sample in self.samples if _is_figure(sample.name))
        return "dead" if self.has("kvlease:agent_up") and reported else None

    def engines(self, prefix: str = "kvlease:") -> tuple[str, ...]:
        """The engines with samples whose names begin like that: ranks in their order, "" for one without a label."""
        found = {sample.labels.get(ENGINE, "") for sample in self.samples if sample.name.startswith(prefix)}
        return tuple(sorted(found, key=lambda engine: (len(engine), engine)))

    def of_engine(self, engine: str) -> Self:
        """The samples of one of the `engines`."""
        return type(self)(tuple(sample for sample in self.samples if sample.labels.get(ENGINE, "") == engine))


def _is_figure(name: str) -> bool:
    # The times of counters' creation are no figures.
    return name.startswith("kvlease:") and not name.endswith("_created")
