"""The clock that forgives standstills (R26), and the queue of deadlines in any order (R12, R21)."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvlease.protocol.clock import TICK_S, ExpiryQueue, ForgivingClock

TICK = 0.25
"""The tick of the queue: a power of two, so that the naive model may compare exactly."""


class QueueAgainstModel(RuleBasedStateMachine):
    """The queue beside a dict of deadlines that is searched from end to end: both do the same."""

    @initialize(start=st.integers(0, 1000))
    def begin(self, start: int) -> None:
        self.now = start / 8
        self.queue: ExpiryQueue[int] = ExpiryQueue(self.now, TICK)
        self.deadlines: dict[int, float] = {}

    @rule(key=st.integers(0, 9), ahead=st.integers(-40, 400))
    def set(self, key: int, ahead: int) -> None:
        self.queue.set(key, self.now + ahead / 8)
        self.deadlines[key] = math.ceil(max(self.now + ahead / 8, math.floor(self.now / TICK) * TICK) / TICK) * TICK

    @rule(key=st.integers(0, 9))
    def hasten(self, key: int) -> None:
        self.queue.hasten(key)
        self.deadlines[key] = math.floor(self.now / TICK) * TICK

    @rule(key=st.integers(0, 9))
    def discard(self, key: int) -> None:
        self.queue.discard(key)
        self.deadlines.pop(key, None)

    @rule(eighths=st.one_of(st.integers(0, 8), st.integers(0, 800)))
    def pass_time(self, eighths: int) -> None:
        self.now += eighths / 8
        due = self.queue.take_due(self.now)
        expected = [key for key, deadline in self.deadlines.items() if deadline <= self.now]
        assert sorted(due) == sorted(expected)
        ticks = [self.deadlines.pop(key) for key in due]
        assert ticks == sorted(ticks), "the earliest first"

    @invariant()
    def keeps_the_same_keys(self) -> None:
        assert len(self.queue) == len(self.deadlines)
        assert all((key in self.queue) == (key in self.deadlines) for key in range(10))
        buckets = [keys for _, keys in self.queue.snapshot()]
        assert sum(map(len, buckets)) == len(self.deadlines), "R12: no empty bucket stays"
        assert all(buckets)
        assert self.queue.remembered_ticks <= 2 * len(buckets) + 65, "R12: nor what tells of it"

    @invariant()
    def knows_what_comes_first(self) -> None:
        assert self.queue.next_due() == min(self.deadlines.values(), default=None)


TestQueueAgainstModel = QueueAgainstModel.TestCase
TestQueueAgainstModel.settings = settings(max_examples=60, derandomize=True, database=None, deadline=None)


@given(st.floats(0, 1e6), st.floats(0, 1e5), st.floats(0, 1e5))
@settings(derandomize=True, database=None)
def test_a_deadline_is_never_early_by_more_than_rounding_and_never_late_by_more_than_a_tick(
    start: float, ahead: float, passed: float
) -> None:
    queue: ExpiryQueue[str] = ExpiryQueue(start)
    queue.set("lease", start + ahead)
    now = start + passed
    due = queue.take_due(now) == ["lease"]
    if now < start + ahead - 1e-9:
        assert not due
    if now > start + ahead + TICK_S:
        assert due


def test_deadlines_need_not_come_in_order() -> None:
    queue: ExpiryQueue[str] = ExpiryQueue(0.0)
    for key, deadline in (("late", 50.0), ("early", 1.0), ("middle", 20.0), ("late", 30.0), ("past", -5.0)):
        queue.set(key, deadline)
    assert queue.take_due(0.5) == ["past"]
    assert queue.take_due(100.0) == ["early", "middle", "late"]


def test_r12_a_deadline_that_moves_on_and_on_leaves_nothing_behind() -> None:
    queue: ExpiryQueue[str] = ExpiryQueue(0.0)
    for second in range(1000):
        queue.set("lease", float(second))
    assert queue.remembered_ticks < 100
    assert queue.take_due(2000.0) == ["lease"]


def test_r26_a_pause_is_forgiven_but_for_the_tolerance() -> None:
    clock = ForgivingClock(tolerance_s=0.1, now=10.0)
    assert clock.read(10.05) == 10.05
    assert math.isclose(clock.read(70.05), 10.15)
    assert math.isclose(clock.read(70.10), 10.20)
    assert math.isclose(clock.forgiven_s, 59.9)


def test_r26_time_in_which_one_was_awake_is_no_pause() -> None:
    clock = ForgivingClock(tolerance_s=0.1, now=10.0)
    clock.was_awake(70.0)
    assert clock.read(70.05) == 70.05
    assert clock.forgiven_s == 0


@given(st.lists(st.floats(-1, 10), max_size=30))
@settings(derandomize=True, database=None)
def test_r26_own_time_never_runs_back_and_never_faster_than_time(gaps: list[float]) -> None:
    clock, now, latest = ForgivingClock(tolerance_s=0.1, now=100.0), 100.0, 100.0
    own = clock.read(now)
    for gap in gaps:
        now += gap
        before, own = own, clock.read(now)
        passed = max(0.0, now - latest)
        latest = max(latest, now)
        assert before <= own
        assert own - before <= min(passed, 0.1) + 1e-6
