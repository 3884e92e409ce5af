"""Queries are filled in as Grafana does it, and numbers are written as it writes them."""

import math

import pytest

from proof.monitoring.figures import spoken
from proof.monitoring.rules import RULES
from proof.monitoring.screen import Period, panels
from proof.monitoring.server import configuration


def test_no_variable_is_left_in_a_query() -> None:
    asked = [expression for panel in panels(Period(0, 600, 5.0)) for expression, _ in panel.queries]
    assert len(asked) > 50
    assert [expression for expression in asked if "$" in expression] == []
    assert any("[20000ms]" in expression for expression in asked), "four scrapes"
    assert any("[600000ms]" in expression for expression in asked), "all that is shown"


def test_points_are_no_denser_than_scraping() -> None:
    assert Period(0, 60, 5.0).step_s == 5.0
    assert Period(0, 24_000, 5.0).step_s == 100.0
    assert Period(0, 24_000, 5.0).window_s == 105.0


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "short", "0"),
        (12_345, "short", "12.3 k"),
        (0, "bytes", "0 B"),
        (3 * 2**20, "bytes", "3 MiB"),
        (2048, "Bps", "2 KiB/s"),
        (0.0042, "s", "4.2 ms"),
        (0, "s", "0 s"),
        (90, "s", "1.5 min"),
        (0.25, "percentunit", "25 %"),
        (1.5, "ops", "1.5/s"),
        (math.inf, "s", "too few to say"),
        (math.nan, "s", "unknown"),
    ],
)
def test_a_number_is_written_with_its_unit(value: float, unit: str, text: str) -> None:
    assert spoken(value, unit) == text


def test_prometheus_scrapes_engines_by_their_names() -> None:
    made = configuration({"P": "127.0.0.1:1"}, 0.5)
    assert made["global"]["scrape_interval"] == "500ms"
    assert made["scrape_configs"][0]["static_configs"] == [{"targets": ["127.0.0.1:1"], "labels": {"instance": "P"}}]
    assert made["rule_files"] == [RULES.name]
