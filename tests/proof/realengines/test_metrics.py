"""The reading of an engine's /metrics."""

import pytest

from proof.realengines.metrics import CACHE_USAGE, LEASE_ENDS, Metrics

PAGE = """\
# HELP vllm:kv_cache_usage_perc KV-cache usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="model"} 0.25
# HELP kvlease:lease_ends_total Leases that ended.
# TYPE kvlease:lease_ends_total counter
kvlease:lease_ends_total{cause="released",engine="0"} 4.0
kvlease:lease_ends_total{cause="expired",engine="0"} 2.0
kvlease:lease_ends_total{cause="expired",engine="1"} 1.0
"""


@pytest.fixture
def metrics() -> Metrics:
    return Metrics.parse(PAGE)


def test_values_are_summed_over_what_is_not_asked_for(metrics: Metrics) -> None:
    assert metrics.value(CACHE_USAGE) == 0.25
    assert metrics.value(LEASE_ENDS) == 7
    assert metrics.value(LEASE_ENDS, cause="expired") == 3
    assert metrics.value(LEASE_ENDS, cause="expired", engine="1") == 1


def test_what_was_never_counted_is_zero(metrics: Metrics) -> None:
    assert metrics.value(LEASE_ENDS, cause="orphaned") == 0
    assert metrics.value("vllm:nothing") == 0


def test_counters_by_label(metrics: Metrics) -> None:
    assert metrics.by_label(LEASE_ENDS, "cause") == {"released": 4, "expired": 3}
    assert metrics.by_label(CACHE_USAGE, "cause") == {}
