"""The catalogue keeps the conventions of Prometheus, and says enough."""

import re

import pytest

from kvlease.metrics.catalogue import COUNTERS, GAUGES, HISTOGRAMS, METRICS
from kvlease.metrics.metric import Kind, Metric
from kvlease.protocol import messages

ALL = pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)


def test_every_name_is_there_once() -> None:
    assert len(METRICS) == len(GAUGES) + len(COUNTERS) + len(HISTOGRAMS)


@ALL
def test_a_name_is_as_prometheus_wants_it(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z][a-z_]*[a-z]", metric.name)
    assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket")), "a page adds these"
    assert metric.name.endswith("_seconds") == (metric.kind is Kind.HISTOGRAM)
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


@ALL
def test_no_label_is_one_of_the_engines(metric: Metric) -> None:
    assert metric.label not in {"model_name", "engine", "le", "instance", "job"}
    assert all(re.fullmatch(r"[a-z_]+", value) for value in metric.values)


@ALL
def test_a_meaning_is_whole_sentences(metric: Metric) -> None:
    assert metric.meaning.endswith(".")
    assert metric.meaning[0].isupper() or metric.meaning[0].isdigit()


def test_there_is_somewhere_to_look_when_something_is_wrong() -> None:
    worries = [metric.worry or any(value.worry for value in metric.values.values()) for metric in METRICS.values()]
    assert sum(map(bool, worries)) > len(METRICS) / 2


def test_the_kinds_of_messages_are_the_protocols() -> None:
    kinds = {kind.__name__.lower() for kind in vars(messages).values() if kind in messages.Message.__args__}
    for metric in ("messages_sent", "messages_received", "message_bytes_sent", "message_bytes_received"):
        assert METRICS[metric].values.keys() == kinds
