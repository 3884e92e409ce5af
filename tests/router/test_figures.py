"""The router's page of metrics: every series is described, and is there from the start."""

from collections.abc import Iterator
from itertools import product

import pytest

from kvlease.metrics.metric import Kind
from kvlease.metrics.scraped import Metrics
from kvlease.router import facts
from kvlease.router.catalogue import (
    CONDITIONS,
    FAILURES,
    OUTCOMES,
    RECOMPUTED,
    RELEASED,
    ROLES,
    ROUTER_METRICS,
    WHOLE,
)
from kvlease.router.engines import EngineRole
from kvlease.router.facts import Recompute, ReleaseReason, RoutedOutcome, WholePrompt
from kvlease.router.failures import EngineFailure
from kvlease.router.figures import EngineFigure, RouterFigures

P, D = "http://p0:8000", "http://d0:8000"


def read(figures: RouterFigures) -> Metrics:
    return Metrics.parse(figures.page().decode())


def test_the_catalogue_has_the_words_of_the_core_and_no_other() -> None:
    for enum, words in (
        (EngineFailure, FAILURES),
        (EngineRole, ROLES),
        (RoutedOutcome, OUTCOMES),
        (Recompute, RECOMPUTED),
        (WholePrompt, WHOLE),
        (ReleaseReason, RELEASED),
    ):
        assert {str(each) for each in enum} == set(words), enum


def test_every_series_is_there_from_the_start() -> None:
    metrics = read(RouterFigures())
    for metric in ROUTER_METRICS.values():
        name = metric.shown + "_count" * (metric.kind is Kind.HISTOGRAM)
        if "engine" in metric.labels:
            assert not metrics.has(name)
            continue
        samples = [sample for sample in metrics.samples if sample.name == name]
        found = {tuple(sample.labels[label] for label in metric.labels) for sample in samples}
        assert found == set(product(*metric.labels.values())), name


def test_a_series_that_nobody_has_described_is_a_bug() -> None:
    figures = RouterFigures()
    figures.count("refused", "draining")
    with pytest.raises(ValueError, match="refused has no value 'some-client-word'; it has"):
        figures.count("refused", "some-client-word")
    with pytest.raises(ValueError, match="zip"):
        figures.count("requests", "chat")
    with pytest.raises(KeyError):
        figures.count("no_such_metric")


def test_what_is_counted_is_on_the_page() -> None:
    figures = RouterFigures()
    figures.count("requests", "chat", "finished")
    figures.count("requests", "chat", "finished", by=2)
    figures.set("draining", 1)
    figures.ask("in_flight", lambda: 7)
    figures.observe("overhead_seconds", 0.0007)
    metrics = read(figures)
    assert metrics.value("kvlease_router:requests_total", endpoint="chat", outcome="finished") == 3
    assert figures.value("requests", "chat", "finished") == 3
    assert (metrics.value("kvlease_router:draining"), metrics.value("kvlease_router:in_flight")) == (1, 7)
    histogram = metrics.histogram("kvlease_router:overhead_seconds")
    assert histogram is not None
    assert histogram.count == 1
    assert histogram.sum == pytest.approx(0.0007)
    assert dict(zip(histogram.bounds, histogram.cumulative, strict=True))[0.001] == 1
    assert dict(zip(histogram.bounds, histogram.cumulative, strict=True))[0.0005] == 0


def every_fact() -> Iterator[tuple[facts.RouterFact, str, dict[str, str]]]:
    """Facts of each kind, with every word that they can have, and the series that counts each."""
    for role, failure in product(EngineRole, EngineFailure):
        labels = {"role": str(role), "failure": str(failure)}
        yield facts.CallFailed(role, failure, D), "call_failures", labels
        if failure is not EngineFailure.REFUSED:
            yield facts.RequestRetried(role, failure), "retries", labels
    for failure in set(EngineFailure) - {EngineFailure.REFUSED}:
        yield facts.ReferenceHandedOn(failure), "handed_on", {"failure": str(failure)}
        yield facts.StreamContinued(failure), "continued_streams", {"failure": str(failure)}
        yield facts.BudgetEmpty(failure), "budget_empty", {}
    yield from ((facts.PromptRecomputed(why), "second_prefills", {"why": str(why)}) for why in Recompute)
    yield from ((facts.WholePromptSent(why), "whole_prompts", {"why": str(why)}) for why in WholePrompt)
    yield from ((facts.LeaseReleased(why), "releases", {"why": str(why)}) for why in ReleaseReason)


def test_each_fact_of_the_core_is_counted_once() -> None:
    figures = RouterFigures()
    expected: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
    for fact, name, labels in every_fact():
        figures.hear(fact)
        key = (ROUTER_METRICS[name].shown, tuple(sorted(labels.items())))
        expected[key] = expected.get(key, 0) + 1
    figures.hear(facts.RequestOver(RoutedOutcome.FINISHED, ""))
    counted = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for sample in read(figures).samples
        if sample.name.endswith("_total") and sample.value
    }
    assert counted == expected


def test_an_engine_that_has_left_leaves_no_series_behind() -> None:
    engines = [EngineFigure(P, "prefill", "up", 2), EngineFigure(D, "decode", "open", 1)]
    figures = RouterFigures(lambda: engines)
    for failure in (EngineFailure.CUT, EngineFailure.REFUSED):
        figures.hear(facts.CallFailed(EngineRole.DECODE, failure, D))
    metrics = read(figures)
    assert metrics.by_label("kvlease_router:engine_in_flight", "engine") == {P: 2, D: 1}
    assert metrics.value("kvlease_router:engine_up", engine=P) == 1
    assert metrics.value("kvlease_router:engine_up", engine=D) == 0
    # A refusal is the client's mistake.
    assert metrics.value("kvlease_router:engine_failures_total", engine=D, role="decode") == 1
    assert metrics.value("kvlease_router:engines", role="decode", condition="open") == 1
    assert sum(s.value for s in metrics.samples if s.name == "kvlease_router:engines") == 2
    engines.pop()
    metrics = read(figures)
    assert D not in figures.page().decode()
    engines.append(EngineFigure(D, "decode", "up", 0))
    assert read(figures).value("kvlease_router:engine_failures_total", engine=D) == 0
    assert set(CONDITIONS) == {s.labels["condition"] for s in metrics.samples if s.name == "kvlease_router:engines"}
