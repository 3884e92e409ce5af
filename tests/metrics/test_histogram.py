"""Counts in buckets are what prometheus_client would have counted, however they travel."""

import json
import math
import random
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as Known

from kvlease.metrics.histogram import MOST_TAKEN, Added, Histogram, add_up, observe_into, values
from kvlease.metrics.metric import FINE, steps

BOUNDS = (0.1, 0.2, 0.5, 1.0)


def seen(known: Known) -> tuple[list[float], Any]:
    """The buckets' counts, and the sum."""
    (family,) = known.collect()
    buckets = [sample.value for sample in family.samples if sample.name.endswith("_bucket")]
    (total,) = [sample.value for sample in family.samples if sample.name.endswith("_sum")]
    return buckets, total


def known(bounds: Sequence[float]) -> Known:
    return Known("known", "", buckets=bounds, registry=CollectorRegistry())


def travelled(added: Added, bounds: Sequence[float]) -> Known:
    """The histogram of prometheus_client at the end of the way."""
    arrived = known(bounds)
    for value, times in values(bounds, json.loads(json.dumps(added))):
        for _ in range(times):
            arrived.observe(value)
    return arrived


def drawn(seed: int) -> Iterator[float]:
    """Values of all sizes, and those on bounds and next to them."""
    chance = random.Random(seed)
    for _ in range(200):
        bound = chance.choice(BOUNDS)
        yield chance.choice([chance.expovariate(2), bound, math.nextafter(bound, 9), math.nextafter(bound, 0), 0.0])


@pytest.mark.parametrize("seed", range(20))
def test_what_has_travelled_is_what_prometheus_would_have_counted(seed: int) -> None:
    told, direct, received = Histogram(BOUNDS), known(BOUNDS), Histogram(BOUNDS)
    summed: dict[str, Added] = {}
    for number, value in enumerate([*drawn(seed), 0.3]):
        told.observe(value)
        direct.observe(value)
        if number % 8 == 0:
            added = told.take()
            received.add(added)
            add_up(summed, {"time": added})
    buckets, total = seen(direct)
    assert buckets[-1] == 201, "the last one was taken as well"
    assert seen(travelled(summed["time"], BOUNDS)) == (buckets, pytest.approx(total))
    assert [count for count, _ in received.cells()] == [count for count, _ in told.cells()]
    assert sum(part for _, part in received.cells()) == pytest.approx(total)
    assert sum(count for count, _ in told.cells()) == buckets[-1]


@pytest.mark.parametrize("value", [0.1, 0.2, math.nextafter(0.1, 1), math.nextafter(0.2, 1), 1.0, 7.0])
def test_a_mean_never_leaves_its_bucket(value: float) -> None:
    """Three times 0.1 is more than 0.3, and so would be their mean."""
    for times in range(1, 50):
        added: Added = {}
        direct = known(BOUNDS)
        for _ in range(times):
            observe_into(added, BOUNDS, value)
            direct.observe(value)
        assert seen(travelled(added, BOUNDS))[0] == seen(direct)[0], times


def test_what_was_taken_is_not_taken_again_and_nothing_is_nothing() -> None:
    histogram = Histogram(BOUNDS)
    assert histogram.take() == {}
    histogram.observe(0.15)
    histogram.observe(2.0)
    assert histogram.take() == {"1": [1, 0.15], "4": [1, 2.0]}
    assert histogram.take() == {}
    histogram.observe(0.2)
    assert histogram.take() == {"1": [1, pytest.approx(0.2)]}


def test_its_size_is_that_of_its_buckets() -> None:
    histogram = Histogram(BOUNDS)
    for number in range(10_000):
        histogram.observe(number / 5_000)
    assert len(histogram.take()) == len(BOUNDS) + 1


def test_another_thread_never_sees_a_count_without_its_sum() -> None:
    histogram, stop = Histogram(BOUNDS), threading.Event()

    def observe() -> None:
        while not stop.is_set():
            histogram.observe(0.25)

    thread = threading.Thread(target=observe)
    thread.start()
    try:
        for _ in range(2_000):
            count, total = histogram.cells()[2]
            assert total == count * 0.25
    finally:
        stop.set()
        thread.join()


def test_steps_are_the_same_in_every_decade() -> None:
    assert steps(0.01, 20) == (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
    assert steps(0.1, 10, FINE) == (0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10)


def test_a_report_after_an_idle_night_is_no_larger_than_others_and_nothing_is_lost() -> None:
    told, received = Histogram(BOUNDS), Histogram(BOUNDS)
    values_told = [0.01, 0.03] * (MOST_TAKEN + 250) + [0.3] * 7
    for value in values_told:
        told.observe(value)
    reports = []
    while added := told.take():
        reports.append(added)
        received.add(added)
    assert [report["0"][0] for report in reports] == [MOST_TAKEN, MOST_TAKEN, 500]
    assert [count for count, _ in received.cells()] == [count for count, _ in told.cells()]
    assert sum(total for _, total in received.cells()) == pytest.approx(sum(values_told))
    assert all(0 < value <= BOUNDS[0] for report in reports for value, _ in values(BOUNDS, {"0": report["0"]}))
