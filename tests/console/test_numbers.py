"""Numbers as people read them."""

import pytest

from kvlease.console.numbers import figure, fraction, percent, rate, seconds, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123, "0.0123"),
        (3.14159, "3.14"),
        (31.4, "31.4"),
        (99.96, "100"),
        (5213.7, "5,214"),
        (2e-5, "2.00e-05"),
    ],
)
def test_figures_have_three_digits_that_count(value: float, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 s"), (0.0312, "31 ms"), (1.4249, "1.42 s"), (95.04, "95 s"), (123456.0, "123,456 s")]
)
def test_durations_are_shown_as_people_read_them(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0 B"), (83.3, "83.3 B"), (2048, "2.05 kB"), (3.1e9, "3.1 GB")])
def test_sizes_are_shown_as_people_read_them(value: float, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 %"), (0.00123, "0.12 %"), (0.123, "12.3 %"), (0.99984, "99.98 %"), (1.0, "100 %")]
)
def test_shares_are_shown_as_people_read_them(value: float, text: str) -> None:
    assert percent(value) == text


def test_rates_and_fractions_are_shown_as_people_read_them() -> None:
    assert (rate(3.14159), rate(1234.5)) == ("3.14/s", "1,234/s")
    assert (fraction(1 / 540), fraction(0.0)) == ("1/540", "0")
