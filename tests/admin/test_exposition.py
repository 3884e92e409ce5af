"""The agent's own page: what Prometheus reads of it is the catalogue, with the engine's labels."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kvlease.admin.exposition import page
from kvlease.metrics.catalogue import METRICS
from kvlease.metrics.metric import PREFIX, Kind
from tests.admin.engines import PLACE, PROMPT, Pair

LABELS = {"model_name": "m", "engine": "0"}


@pytest.fixture(scope="module")
def families() -> dict[str, Any]:
    pair = Pair()
    ref = pair.p.prefill("a", 3)
    pair.d.consumer.take_on("a", PROMPT, ref, PLACE)
    pair.run(1.0)
    pair.d.consumer.release("a")
    pair.run(0.5)
    return {family.name: family for family in text_string_to_metric_families(page(pair.p.figures, LABELS).decode())}


def test_it_has_every_metric_with_every_value(families: dict[str, Any]) -> None:
    assert families.keys() == {PREFIX + name for name in METRICS}
    for name, metric in METRICS.items():
        family = families[PREFIX + name]
        assert family.type == metric.kind
        assert family.documentation == metric.meaning
        if metric.kind is not Kind.HISTOGRAM:
            assert {sample.name for sample in family.samples} == {metric.shown}
            own = [{metric.label: value} for value in metric.values] or [{}]
            assert [sample.labels for sample in family.samples] == [LABELS | each for each in own]


def test_a_histogram_is_cumulative_and_ends_with_all(families: dict[str, Any]) -> None:
    family = families["kvlease:claim_wait_seconds"]
    buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
    assert [bound for bound, _ in buckets] == [*METRICS["claim_wait_seconds"].buckets, float("inf")]
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)
    others = {s.name: s.value for s in family.samples if not s.name.endswith("_bucket")}
    assert others["kvlease:claim_wait_seconds_count"] == buckets[-1][1] == 1
    assert 0 < others["kvlease:claim_wait_seconds_sum"] < 1


def test_its_numbers_are_the_engines(families: dict[str, Any]) -> None:
    def value(name: str, **labels: str) -> float:
        family = families[f"kvlease:{name}"]
        (number,) = [sample.value for sample in family.samples if labels.items() <= sample.labels.items()]
        return float(number)

    assert value("grants") == 1
    assert value("lapsed_tokens") == PROMPT.tokens
    assert value("lease_ends", cause="released") == 1
    assert value("lease_ends", cause="expired") == 0
