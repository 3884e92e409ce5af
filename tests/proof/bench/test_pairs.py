"""The timing of pairs of calls, with a clock that runs only when the test says so."""

import gc
from collections.abc import Callable, Iterator

import pytest

from proof.bench.frame import pairs
from proof.bench.frame.figures import Effort, Spread
from proof.bench.frame.pairs import Repeats, Work, alone, compare, paired, rounds, timing
from tests.proof.bench.spreads import known

AMOUNT = Repeats(pairs=6, block_s=0.01, budget_s=1000.0, least_pairs=2)


class FakeTime:
    """A stand-in for `time.perf_counter`, with calls that take its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.called: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def call(self, name: str, takes: Iterator[float] | float) -> Callable[[], None]:
        def run() -> None:
            self.called.append(name)
            self.now += takes if isinstance(takes, float) else next(takes)

        return run


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(pairs, "time", fake)
    return fake


def test_a_row_has_both_medians_and_the_ratio(time: FakeTime) -> None:
    row = compare("a call", Work(time.call("ours", 0.002)), Work(time.call("stock", 0.008)), AMOUNT)
    assert row.unit == "µs"
    spreads = [known(spread) for spread in (row.ours, row.stock, row.ratio)]
    assert [spread.median for spread in spreads] == pytest.approx([2000, 8000, 0.25])
    assert [spread.count for spread in spreads] == [6, 6, 6]


def test_blocks_alternate_so_that_drift_favours_nobody(time: FakeTime) -> None:
    compare("a call", Work(time.call("o", 0.02)), Work(time.call("s", 0.02)), AMOUNT)
    # One block of each call is the calibration.
    assert "".join(time.called[2:]) == "ossoossoosso"


def test_ratios_are_of_neighbours_and_not_of_medians() -> None:
    row = paired("a figure", "GB", [1.0, 2.0, 30.0], [10.0, 20.0, 30.0])
    assert row.ratio == Spread.of([0.1, 0.1, 1.0])
    with pytest.raises(ValueError, match="zip"):
        paired("a figure", "GB", [1.0], [1.0, 2.0])


def test_a_block_is_as_long_as_the_clock_needs(time: FakeTime) -> None:
    """Short calls come in blocks of many, long ones come singly."""
    compare("a call", Work(time.call("o", 0.0001)), Work(time.call("s", 0.5)), AMOUNT)
    assert max(map(len, "".join(time.called).split("s"))) >= 100
    assert time.called.count("s") == 1 + AMOUNT.pairs


def test_the_budget_ends_it_but_not_before_there_are_enough_pairs(time: FakeTime) -> None:
    tight = Repeats(pairs=1000, block_s=0.01, budget_s=1.0, least_pairs=3)
    assert compare("a call", Work(time.call("o", 5.0)), Work(time.call("s", 5.0)), tight).ratio.count == 3  # type: ignore[union-attr]
    assert alone("a call", Work(time.call("o", 0.1)), tight).ours.count in (10, 11)  # type: ignore[union-attr]


def test_what_is_laid_ready_is_off_the_clock_and_for_every_call(time: FakeTime) -> None:
    ready: list[int] = []

    def prepare(calls: int) -> None:
        time.now += 100.0
        ready.extend(range(calls))

    def call() -> None:
        ready.pop()
        time.now += 0.001

    row = alone("a call", Work(call, prepare), Repeats(pairs=5, block_s=0.01, budget_s=10_000.0, least_pairs=5))
    assert known(row.ours).most == pytest.approx(1000)
    assert ready == []


def test_the_collector_stays_on(time: FakeTime) -> None:
    """The collector stays on, since the cost of objects that live on belongs to the figure."""
    states: list[bool] = []

    def call() -> None:
        states.append(gc.isenabled())
        time.now += 0.1

    alone("a call", Work(call), AMOUNT)
    assert all(states)


def test_short_is_shorter_than_full() -> None:
    assert timing(Effort.SHORT).budget_s < timing(Effort.FULL).budget_s
    assert timing(Effort.SHORT).pairs < timing(Effort.FULL).pairs


def test_what_happens_between_calls_is_off_the_clock(time: FakeTime) -> None:
    row = alone("a call", Work(time.call("o", 0.002), between=time.call("b", 5.0)), AMOUNT)
    assert known(row.ours).most == pytest.approx(2000)
    assert "oo" not in "".join(time.called)


def test_more_than_two_are_measured_in_rounds(time: FakeTime) -> None:
    works = [Work(time.call(name, takes)) for name, takes in (("a", 0.01), ("b", 0.02), ("c", 0.03))]
    found = rounds(works, AMOUNT)
    assert [values[0] for values in found] == pytest.approx([10_000, 20_000, 30_000])
    assert {len(values) for values in found} == {AMOUNT.pairs}
    assert "".join(time.called[3:9]) == "abccba"
