"""The metrics of kvlease on /metrics: every name, its label, its meaning, and when to worry (R17, R38).

All tables in docs/operate/observe.md are made from it, by `make docs`. No label has a value that is not named here.
"""

from kvlease.metrics import counters, gauges, times, traffic
from kvlease.metrics.metric import Kind, Metric

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*gauges.GAUGES, *counters.COUNTERS, *traffic.COUNTERS, *times.HISTOGRAMS)
}
"""Every metric by its name, without prefix and suffix."""


def of(kind: Kind) -> dict[str, Metric]:
    """Returns the metrics of one kind by name."""
    return {name: metric for name, metric in METRICS.items() if metric.kind is kind}


GAUGES = of(Kind.GAUGE)
COUNTERS = of(Kind.COUNTER)
HISTOGRAMS = of(Kind.HISTOGRAM)
