"""The bounds: how many requests are under way, how many wait, and how long."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.errors import ConfigError
from kvlease.routing.admission import AdmissionLimits, AdmissionQueue, Entry


def filled(in_flight: int = 2, queue: int = 2) -> AdmissionQueue[int]:
    full: AdmissionQueue[int] = AdmissionQueue(AdmissionLimits(in_flight=in_flight, queue=queue, wait_s=5.0))
    for key in range(in_flight + queue):
        full.arrive(float(key), key)
    return full


def test_what_is_too_much_waits_and_what_is_more_is_refused() -> None:
    queue: AdmissionQueue[int] = AdmissionQueue(AdmissionLimits(in_flight=2, queue=1))
    entries = [queue.arrive(0.0, key) for key in range(4)]
    assert entries == [Entry.ADMITTED, Entry.ADMITTED, Entry.QUEUED, Entry.FULL]
    assert (queue.in_flight, queue.waiting) == (2, 1)
    with pytest.raises(ValueError, match="the request 2 is here already"):
        queue.arrive(0.0, 2)


def test_who_waits_is_admitted_in_order() -> None:
    queue = filled()
    assert queue.left(9.0, 1) == (2,)
    assert queue.left(9.0, 1) == (), "it had left"
    assert queue.arrive(9.0, 99) is Entry.QUEUED, "nobody overtakes"
    assert [queue.left(9.0, key) for key in (0, 2, 3)] == [(3,), (99,), ()]


def test_a_client_that_leaves_the_queue_is_forgotten() -> None:
    queue = filled()
    assert queue.left(4.0, 2) == ()
    assert queue.left(4.0, 0) == (3,)


def test_who_waits_too_long_is_told_so() -> None:
    queue = filled()
    assert queue.next_due() == 7.0
    assert queue.overdue(6.9) == ()
    assert queue.overdue(7.0) == (2,)
    assert queue.overdue(99.0) == (3,)
    assert queue.next_due() is None


def test_a_client_is_told_to_come_back_when_those_who_wait_are_through() -> None:
    queue = filled(in_flight=2, queue=4)
    assert queue.retry_after_s() == 1.0, "nothing is known yet"
    queue.left(20.0, 0)
    assert queue.waiting == 3
    assert queue.retry_after_s() == 40.0, "20 s each, two at once, three before"
    queue.left(1000.0, 1)
    assert queue.retry_after_s() == 60.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 4))
def test_no_bound_is_exceeded_and_everybody_gets_one_answer(seed: int, in_flight: int, most: int) -> None:
    chance, now = Random(seed), 0.0
    queue: AdmissionQueue[int] = AdmissionQueue(AdmissionLimits(in_flight=in_flight, queue=most, wait_s=3.0))
    running: set[int] = set()
    waiting: list[int] = []
    for key in range(60):
        now += chance.random()
        for late in queue.overdue(now):
            assert waiting.pop(0) == late
        entry = queue.arrive(now, key)
        if entry is Entry.ADMITTED:
            running.add(key)
        elif entry is Entry.QUEUED:
            waiting.append(key)
        if chance.random() < 0.5 and (here := [*running, *waiting]):
            gone = chance.choice(here)
            running.discard(gone)
            waiting = [each for each in waiting if each != gone]
            admitted = queue.left(now, gone)
            assert list(admitted) == waiting[: len(admitted)], "first come, first served"
            running.update(admitted)
            waiting = waiting[len(admitted) :]
        assert (queue.in_flight, queue.waiting) == (len(running), len(waiting))
        assert len(running) <= in_flight
        assert len(waiting) <= most
        assert not waiting or len(running) == in_flight, "nobody waits for nothing"
        assert 1.0 <= queue.retry_after_s() <= 60.0


@pytest.mark.parametrize("limits", [{"in_flight": 0}, {"queue": -1}, {"wait_s": 0.0}, {"wait_s": float("inf")}])
def test_impossible_limits_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        AdmissionLimits(**limits)  # type: ignore[arg-type]
