"""A real Prometheus scrapes engines' pages and answers every query of the dashboard and of the rules."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.monitoring.client import PrometheusClient
from proof.monitoring.draw import draw_rows
from proof.monitoring.programs import NoPrometheus
from proof.monitoring.rules import recordings, rules
from proof.monitoring.screen import Period, answered, panels
from proof.monitoring.server import prometheus
from tests.monitoring.pages import serving

pytestmark = pytest.mark.prometheus
SCRAPE_S = 0.5
SEEN_S = 12.0
"""The time that Prometheus has for scraping: many windows of rates."""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PrometheusClient, Period]]:
    """A Prometheus that has seen two engines of two ranks each for some time, and that time."""
    with (
        serving() as p,
        serving() as d,
        prometheus({"P": p, "D": d}, tmp_path_factory.mktemp("prometheus"), SCRAPE_S) as client,
    ):
        start = time.time()
        time.sleep(SEEN_S)
        yield client, Period(start + SEEN_S / 2, start + SEEN_S, SCRAPE_S)


def test_every_target_is_up(asked: tuple[PrometheusClient, Period]) -> None:
    assert [target["health"] for target in asked[0].targets()] == ["up", "up"]


def test_every_rule_is_evaluated(asked: tuple[PrometheusClient, Period]) -> None:
    found = asked[0].rules()
    assert [(rule["name"], rule.get("lastError")) for rule in found if rule["health"] != "ok"] == []
    assert {rule["name"] for rule in found} == {rule.name for rule in rules()}


@pytest.mark.parametrize("name", [rule.name for rule in recordings()])
def test_a_recorded_series_has_values(asked: tuple[PrometheusClient, Period], name: str) -> None:
    engines_and_ranks = 2 * 2
    assert len(asked[0].ask(name)) == (engines_and_ranks if name.startswith("engine:") else 1)


@pytest.mark.parametrize("title", [panel.title for panel in panels(Period(0, 1))])
def test_a_panel_has_values(asked: tuple[PrometheusClient, Period], title: str) -> None:
    client, period = asked
    (panel,) = (panel for panel in panels(period) if panel.title == title)
    for expression, _ in panel.queries:
        found = client.ask_over(expression, period.start, period.end, period.step_s)
        assert found, expression
        assert all(value == value for series in found for _, value in series.points), "it is not a number"


def test_lines_of_a_panel_have_names_of_their_own(asked: tuple[PrometheusClient, Period]) -> None:
    client, period = asked
    for panel in panels(period):
        names = [line.name for line in answered(panel, client, period).lines]
        assert len(names) == len(set(names)), panel.title
        assert all(names), panel.title


def test_a_query_that_is_none_is_refused_with_its_reason(asked: tuple[PrometheusClient, Period]) -> None:
    with pytest.raises(NoPrometheus, match="sum by"):
        asked[0].ask("sum by (")


def test_nobody_at_an_address_is_told() -> None:
    client = PrometheusClient("http://127.0.0.1:9")
    with pytest.raises(NoPrometheus, match="give the URL of one"):
        client.ask("up")
    client.close()


def test_the_dashboard_can_be_drawn(asked: tuple[PrometheusClient, Period], tmp_path: Path) -> None:
    client, period = asked
    drawn = draw_rows([answered(panel, client, period) for panel in panels(period)], period, tmp_path)
    assert len(drawn) == 9
    assert all(path.stat().st_size > 10_000 for path in drawn)
