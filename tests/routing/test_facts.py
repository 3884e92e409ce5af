"""The counts: what requests tell is counted by its labels, which are few."""

from kvlease.routing.engines import EngineRole
from kvlease.routing.facts import CallFailed, LeaseReleased, ReleaseReason, RequestOver, RoutedOutcome, RouterCounts
from kvlease.routing.failures import EngineFailure


def test_facts_are_counted_by_their_labels() -> None:
    counts = RouterCounts()
    for engine in ("http://a", "http://b"):
        counts.hear(CallFailed(EngineRole.DECODE, EngineFailure.CUT, engine))
    counts.hear(CallFailed(EngineRole.PREFILL, EngineFailure.BUSY, "http://c"))
    counts.hear(RequestOver(RoutedOutcome.FINISHED, ""))
    assert counts.of(CallFailed) == {
        (("role", "decode"), ("failure", "cut")): 2,
        (("role", "prefill"), ("failure", "busy")): 1,
    }
    assert counts.total(CallFailed) == 3
    assert counts.total(CallFailed, role="decode") == 2
    assert counts.total(LeaseReleased, why=ReleaseReason.ENDED) == 0
    assert len(list(counts)) == 3


def test_an_engines_url_is_no_label() -> None:
    """Engines come and go: each URL would stay in /metrics for ever."""
    counts = RouterCounts()
    counts.hear(CallFailed(EngineRole.DECODE, EngineFailure.CUT, "http://a"))
    assert "http" not in repr(list(counts))
