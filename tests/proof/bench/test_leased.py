"""The benchmarks measure kvlease's own code, and judge the goals by the right figures."""

import pytest

from kvlease.protocol.messages import Ack, Renew
from proof.bench.core import interval, renewal
from proof.bench.core.leased import CONFIG, LeasedConsumer, LeasedProducer
from proof.bench.frame.figures import FigureRow, Spread
from proof.bench.frame.growth import growth_curves, growth_goals
from proof.bench.frame.pairs import Repeats, alone

AMOUNT = Repeats(pairs=3, block_s=0.0002, budget_s=1.0, least_pairs=3)


def test_a_producer_has_its_leases_claimed_and_answers_each_renewal() -> None:
    producer = LeasedProducer(2_000)
    assert producer.core.report().leases == 2_000
    assert producer.core.report().lessor["claims"] == 2_000
    before = producer.core.report().lessor["renewals"]
    for arrived in producer.renewals(3):
        producer.desk.inbox.append(arrived)
        producer.turn()
    assert producer.core.report().lessor["renewals"] == before + 3
    assert [type(message) for message in producer.desk.take()] == [Ack] * 3


def test_a_consumer_holds_its_leases_and_renews_once_an_interval() -> None:
    consumer = LeasedConsumer(2_000)
    assert consumer.core.report().producers == 1
    for acknowledged in consumer.acknowledgements(3):
        consumer.core.progress()
        consumer.turn(CONFIG.renew_interval_s + 0.02)
        (renew,) = consumer.desk.take()
        assert isinstance(renew, Renew)
        assert not renew.claims
        consumer.desk.inbox.append(acknowledged)
        consumer.turn()
        assert not consumer.desk.take()


def test_every_call_that_is_timed_is_a_renewal() -> None:
    """Every call that is timed is a renewal, in blocks of any size: none is lost, answered twice or repeated."""
    assert alone("a renewal", renewal.ours(100), AMOUNT).ours is not None
    sends, _ = interval.ours(100)
    assert alone("sent", sends, AMOUNT).ours is not None
    _, hears = interval.ours(100)
    assert alone("heard", hears, AMOUNT).ours is not None


def test_a_call_in_which_no_renewal_is_due_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interval, "TICK_S", -1.0)
    sends, _ = interval.ours(100)
    with pytest.raises(AssertionError, match="a renewal was due"):
        alone("sent", sends, AMOUNT)


def rows(*medians: float) -> dict[int, FigureRow]:
    return {
        leases: FigureRow(f"{leases}", "µs", Spread.of([median]), Spread.of([median * 9]))
        for leases, median in zip((10, 1_000, 10_000, 100_000), medians, strict=True)
    }


@pytest.mark.parametrize(
    ("medians", "met"),
    [
        ((5.0, 5.5, 6.0, 7.4), [True, True]),
        ((5.0, 5.5, 6.0, 7.6), [False, True]),
        ((5.0, 8.0, 6.0, 6.0), [False, True]),
        ((9.0, 9.0, 10.5, 9.0), [True, False]),
        ((9.0, 1.0, 1.0, 1.0), [True, True]),
    ],
)
def test_flat_means_that_no_number_of_leases_is_dearer(medians: tuple[float, ...], met: list[bool]) -> None:
    found = growth_goals(rows(*medians), 10.0)
    assert [goal.met for goal in found] == met


def test_goals_name_their_figures() -> None:
    flat, fast = growth_goals(rows(5.0, 5.0, 6.0, 7.0), 10.0, " added")
    assert (flat.text, flat.found) == (
        "flat in n: from 10 to 100,000 leases nowhere over 1.5 times",
        "1.40 times at 100,000",
    )
    assert (fast.text, fast.found) == ("under 10 µs added at 10,000 leases", "6 µs")


def test_curves_hold_both_sides() -> None:
    curves = growth_curves(rows(1.0, 2.0, 3.0, 4.0), "leases", "µs", 10.0)
    assert [(at, y.median) for at, y in curves.series["stock"]][1] == (1_000, 18.0)
    assert [at for at, _ in curves.series["kvlease"]] == [10, 1_000, 10_000, 100_000]
    assert curves.limit == 10.0
