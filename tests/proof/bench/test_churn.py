"""The churn benchmark measures the churn that it says: every lease is claimed and ends, and a leak shows."""

import pytest

from kvlease.agent.core import AgentCore
from kvlease.protocol import Lessor
from proof.bench.churn import meter as churn_meter
from proof.bench.churn.books import BATCH, ChurnBooks, OurBooks
from proof.bench.churn.engines import PRODUCER, LeasesStayed
from proof.bench.churn.memory import over_memory
from proof.bench.churn.meter import ChurnPlan
from proof.bench.churn.space import allocations, left_behind, space

pytestmark = pytest.mark.long


def test_all_leases_are_claimed_and_over_in_the_end() -> None:
    books = ChurnBooks()
    books.churn(20 * BATCH)
    assert books.producer_agent.report().leases > 0
    books.settle()
    producer, consumer = books.producer_agent.report(), books.consumer_agent.report()
    assert producer.leases == 0
    assert producer.lessor["grants"] == producer.lessor["ends.released"] == 20 * BATCH
    assert producer.lessor["claims"] == consumer.lessee["tracked"] == 20 * BATCH
    assert books.producer.calls.leases == books.consumer.calls.leases == 20 * BATCH


def test_a_lease_that_is_lost_stops_the_benchmark() -> None:
    books = ChurnBooks()
    books.consumer.step([0xBAD], books.now)
    with pytest.raises(LeasesStayed, match="1 leases were lost"):
        books.churn(20 * BATCH)


def test_leases_that_do_not_end_stop_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    books = ChurnBooks()
    books.churn(BATCH)
    monkeypatch.setattr(AgentCore, "untrack", lambda *_: None)
    with pytest.raises(LeasesStayed, match=f"{BATCH} leases did not end"):
        books.settle()


def test_only_calls_and_turns_are_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading of the clock takes a second: a step has one span for each engine's calls, and one for the turns."""
    readings = iter(range(1_000_000))
    monkeypatch.setattr("time.thread_time", lambda: float(next(readings)))
    books = ChurnBooks()
    books.step(BATCH)
    assert (books.producer.calls.seconds, books.consumer.calls.seconds, books.agents_s) == (1.0, 1.0, 1.0)
    assert books.spent_s == 3.0


def test_our_books_count_only_what_is_new() -> None:
    ours = OurBooks()
    first, second = ours.spend(BATCH), ours.spend(BATCH)
    assert first > 0
    assert second > 0
    assert first + second < ours.books.spent_s


def test_memory_of_both_sides_is_told_apart() -> None:
    found = space(500)
    assert 100 < found.producer < 2000
    assert 100 < found.consumer < 2000
    assert found.peak >= found.producer + found.consumer - 1


def test_what_a_lease_leaves_behind_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert left_behind(1000) < 20
    cleared = Lessor.cleared
    kept: list[bytes] = []

    def leaks(self: Lessor, token: int, now: float) -> None:
        kept.append(bytes(200))
        cleared(self, token, now)

    monkeypatch.setattr(Lessor, "cleared", leaks)
    assert left_behind(1000) > 200


def test_every_allocation_of_the_protocol_counts_and_none_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    before = allocations(20 * BATCH)
    assert 10 < before < 1000
    grant = AgentCore.grant

    def wasteful(self: AgentCore, token: int) -> None:
        for _ in range(100):
            bytes(1000)
        grant(self, token)

    monkeypatch.setattr(AgentCore, "grant", wasteful)
    assert 90 < allocations(20 * BATCH) - before < 120


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> ChurnPlan:
    monkeypatch.setattr(churn_meter, "WARM_UP_S", 0.1)
    monkeypatch.setattr(churn_meter, "WINDOW_S", 0.2)
    return ChurnPlan(rate=500.0, busy_s=0.6, idle_s=0.4)


def test_both_sides_are_measured_under_load_and_idle(quick: ChurnPlan) -> None:
    producer, consumer = over_memory(quick)
    assert producer.leases == consumer.leases > 0
    assert 0 < producer.claims <= producer.leases
    for side in (producer, consumer):
        assert side.windows
        assert side.idle
        for window in side.windows:
            assert window.leases > 0
            assert 0 < window.calls_s < window.process_s
            assert 0 < window.agent_s < window.process_s
        assert all(window.leases == 0 for window in side.idle)
        assert not side.own_process


def test_leases_that_stay_out_stop_the_run_with_threads(quick: ChurnPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(churn_meter, "DRAIN_S", 0.2)
    monkeypatch.setattr(AgentCore, "untrack", lambda *_: None)
    with pytest.raises(LeasesStayed, match="not over"):
        over_memory(quick)


def test_tokens_are_those_of_the_producer_that_is_asked() -> None:
    books = ChurnBooks()
    tokens = books.producer.step(3)
    assert len(set(tokens)) == 3
    assert all(0 < token < 1 << 64 for token in tokens)
    assert books.producer_agent.incarnation == PRODUCER
