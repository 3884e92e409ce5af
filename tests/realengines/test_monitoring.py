"""A real Prometheus scrapes real engines, and every query of the dashboard and of the rules has an answer from them."""

import asyncio
import io
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from kvlease.console.progress import Story
from proof.monitoring.draw import draw_rows
from proof.monitoring.play import ScenePlay, played
from proof.monitoring.rules import alerts, recordings
from proof.monitoring.screen import Shown, answered, panels

pytestmark = [pytest.mark.engine, pytest.mark.prometheus, pytest.mark.timeout(300)]

CALM_S = 10.0
STALL_S = 14.0
"""Longer than the extension, so that D's reads come too late."""
ONLY_WHEN_DRAINING = {"Leases left"}


@dataclass(frozen=True)
class Seen:
    """Everything that Prometheus said after a stall and a crash of D."""

    shown: tuple[Shown, ...]
    rules: dict[str, str]
    """Each rule and its last error; "" for none."""
    recorded: dict[str, int]
    """Each recorded series, and how many of them there are."""
    fired: set[str]
    pictures: tuple[Path, ...]


async def trouble(play: ScenePlay) -> None:
    """D stands still until its leases are over, reads late, and is killed with requests in its queue."""
    await asyncio.sleep(CALM_S)
    await play.queue_up()
    play.d.pause()
    await asyncio.sleep(STALL_S)
    play.d.resume()
    await asyncio.sleep(CALM_S)
    await play.queue_up()
    await play.kill_decoder()
    await asyncio.sleep(CALM_S / 2)


@pytest.fixture(scope="module")
def seen(model: Path, logs: Path) -> Seen:
    async def look() -> Seen:
        story = Story(Console(file=io.StringIO()))
        async with played(trouble, model, logs, story) as found:
            client, period = found.client, found.period
            shown = tuple(answered(panel, client, period) for panel in panels(period))
            fired = client.ask_over('ALERTS{alertstate=~"pending|firing"}', period.start, period.end, 1.0)
            return Seen(
                shown=shown,
                rules={rule["name"]: rule.get("lastError", "") for rule in client.rules()},
                recorded={
                    rule.name: len(client.ask_over(rule.name, period.start, period.end, 1.0)) for rule in recordings()
                },
                fired={series.labels["alertname"] for series in fired},
                pictures=tuple(draw_rows(shown, period, logs / "pictures", found.marks)),
            )

    return asyncio.run(look())


def test_every_rule_is_evaluated(seen: Seen) -> None:
    assert {name: error for name, error in seen.rules.items() if error} == {}
    assert {alert.name for alert in alerts()} <= seen.rules.keys()


def test_every_recorded_series_is_there(seen: Seen) -> None:
    assert [name for name, series in seen.recorded.items() if not series] == []


def test_every_panel_has_an_answer(seen: Seen) -> None:
    assert {shown.panel.title for shown in seen.shown if not shown.lines} == ONLY_WHEN_DRAINING


def test_the_trouble_is_on_the_dashboard(seen: Seen) -> None:
    highest = {
        (shown.panel.title, line.name): max(value for _, value in line.points)
        for shown in seen.shown
        for line in shown.lines
    }
    assert highest["Held for nobody heard", "unheard"] > 0
    assert highest["Leases that ended unread, a second", "expired"] > 0
    assert highest["Leases that ended unread, a second", "orphaned"] > 0
    assert highest["Prompt tokens wasted and saved, a second", "saved"] > 0 or any(
        value > 0 for (title, name), value in highest.items() if name.startswith("wasted")
    )


def test_alerts_hear_of_it(seen: Seen) -> None:
    assert {"KvleaseConsumersDie", "KvleaseUnheardLeases", "KvleaseLeasesExpire"} <= seen.fired


def test_it_can_be_drawn(seen: Seen) -> None:
    assert all(path.stat().st_size > 10_000 for path in seen.pictures)
