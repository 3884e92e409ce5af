"""Counters over time, through restarts."""

from kvlease.top.counting import Tally


def read(*readings: tuple[float, float]) -> Tally:
    tally = Tally(window_s=10.0)
    for now, value in readings:
        tally.read(now, value)
    return tally


def test_a_rate_takes_two_readings() -> None:
    assert read().per_second() is None
    assert read((0.0, 100)).per_second() is None
    assert read((0.0, 100), (2.0, 110)).per_second() == 5.0
    assert read((0.0, 100), (2.0, 110), (4.0, 110)).per_second() == 2.5


def test_a_rate_is_of_the_last_seconds() -> None:
    assert read((0.0, 0), (5.0, 1000), (10.0, 1000), (15.0, 1000), (20.0, 1005)).per_second() == 0.5


def test_a_counter_that_falls_has_begun_anew() -> None:
    tally = Tally()
    assert [tally.read(now, value) for now, value in ((0.0, 100), (1.0, 104), (2.0, 3), (3.0, 5))] == [
        False,
        False,
        True,
        False,
    ]
    assert tally.total == 100 + 4 + 3 + 2
    assert tally.per_second() == 3.0


def test_it_knows_when_it_rose() -> None:
    assert read((0.0, 5)).rose_at is None
    assert read((0.0, 5), (1.0, 6), (2.0, 6)).rose_at == 1.0
