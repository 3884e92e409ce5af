"""A /metrics page as vLLM writes it: values, labels, histograms and the ranks of data parallelism."""

import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from kvlease.metrics.scraped import Metrics

NAMES = ["model_name", "engine"]


def page() -> str:
    """The page of an API server with two ranks."""
    registry = CollectorRegistry()
    leases = Gauge("kvlease:active_leases", "Leases.", NAMES, registry=registry)
    ends = Counter("kvlease:lease_ends", "Ends.", [*NAMES, "cause"], registry=registry)
    waits = Histogram("kvlease:claim_wait_seconds", "Waits.", NAMES, registry=registry, buckets=(0.1, 1.0))
    usage = Gauge("vllm:kv_cache_usage_perc", "Usage.", NAMES, registry=registry)
    for rank in range(2):
        leases.labels("m", rank).set(3 + rank)
        usage.labels("m", rank).set(0.5)
        ends.labels("m", rank, "released").inc(10)
        waits.labels("m", rank).observe(0.05)
    ends.labels("m", 1, "expired").inc(2)
    waits.labels("m", 1).observe(7.0)
    usage.labels("m", 2).set(0.1)
    return str(generate_latest(registry), "utf-8")


METRICS = Metrics.parse(page())


def test_a_value_is_the_sum_of_what_carries_these_labels() -> None:
    assert METRICS.value("kvlease:active_leases") == 7
    assert METRICS.value("kvlease:active_leases", engine="1") == 4
    assert METRICS.value("kvlease:lease_ends_total", cause="released") == 20
    assert METRICS.value("kvlease:lease_ends_total", cause="never") == 0


def test_samples_are_added_up_by_a_label() -> None:
    assert METRICS.by_label("kvlease:lease_ends_total", "cause") == {"released": 20, "expired": 2}
    assert METRICS.by_label("vllm:kv_cache_usage_perc", "cause") == {}


def test_a_histogram_has_ascending_bounds_and_cumulative_counts() -> None:
    both = METRICS.histogram("kvlease:claim_wait_seconds")
    assert both is not None
    assert both.bounds == (0.1, 1.0, math.inf)
    assert both.cumulative == (2, 2, 3)
    assert both.sum == pytest.approx(7.1)
    assert both.count == 3
    one = METRICS.histogram("kvlease:claim_wait_seconds", engine="0")
    assert one is not None
    assert one.cumulative == (1, 1, 1)
    assert METRICS.histogram("kvlease:agent_lag_seconds") is None


def test_a_histogram_that_was_cut_off_is_refused() -> None:
    cut = Metrics.parse('h_bucket{le="0.1"} 1\n')
    with pytest.raises(ValueError, match="cut off"):
        cut.histogram("h")


def test_each_rank_has_samples_of_its_own() -> None:
    assert METRICS.engines() == ("0", "1")
    assert METRICS.engines("vllm:") == ("0", "1", "2")
    assert METRICS.of_engine("1").value("kvlease:active_leases") == 4
    assert METRICS.of_engine("1").by_label("kvlease:lease_ends_total", "cause") == {"released": 10, "expired": 2}


def test_ranks_stand_in_the_order_of_their_numbers_and_a_page_without_the_label_is_one_engine() -> None:
    many = Metrics.parse("".join(f'kvlease:agent_up{{engine="{rank}"}} 1\n' for rank in (10, 9, 2)))
    assert many.engines() == ("2", "9", "10")
    bare = Metrics.parse("kvlease:agent_up 1\n")
    assert bare.engines() == ("",)
    assert bare.of_engine("").has("kvlease:agent_up")
    assert not bare.has("kvlease:active_leases")


def test_lines_that_nobody_wants_are_not_read() -> None:
    some = Metrics.parse(page() + "<html>\n", ("kvlease:lease", "kvlease:claim"))
    assert {sample.name for sample in some.samples if not sample.name.startswith("kvlease:claim_wait")} == {
        "kvlease:lease_ends_total",
        "kvlease:lease_ends_created",
    }
    assert some.histogram("kvlease:claim_wait_seconds") == METRICS.histogram("kvlease:claim_wait_seconds")


def test_text_that_is_no_page_is_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own
        Metrics.parse("<html>{not found</html>")
