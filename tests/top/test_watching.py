"""One URL over time: an engine that dies and returns, routes that are missing, and pages that are none."""

import asyncio
import math
from dataclasses import dataclass

import pytest

from kvlease.admin.client import AdminClient, open_http
from kvlease.top import watching
from kvlease.top.picture import take
from kvlease.top.watching import Watched
from tests.top.canned import CannedEngine, CannedServer, lease, transport

URL = "http://p:8000"


@dataclass
class Story:
    """A server, and what is known of it after each reading."""

    server: CannedServer
    now: float = 100.0

    def play(self, *steps: dict[str, object], key: str | None = None) -> Watched:
        """Sets the server's attributes as each step says, or its engine's, and asks every time, two seconds apart."""

        async def played() -> Watched:
            async with open_http(key, transport=transport([self.server])) as http:
                watched = Watched(AdminClient(URL, http), lambda: self.now, lambda: 5000.0 + self.now)
                for step in steps or ({},):
                    for name, value in step.items():
                        setattr(self.server if hasattr(self.server, name) else self.server.engines[0], name, value)
                    await watched.poll()
                    self.now += 2.0
                return watched

        return asyncio.run(played())


@pytest.fixture
def story() -> Story:
    engine = CannedEngine("p", leases=[lease(1, 0.5, 160), lease(2, 0.9, 16, state="lapsed")])
    engine.counters = {"grants_total": 10, 'fence_checks_total{verdict="revoked"}': 4}
    return Story(CannedServer(URL, [engine]))


def test_leases_that_hold_memory_are_asked_for_and_lapsed_ones_are_not(story: Story) -> None:
    watched = story.play()
    assert [each.state for each in watched.leases] == ["granted"]
    assert watched.leases_total == 1


def test_an_engine_that_dies_stays_with_why_and_since_when(story: Story) -> None:
    watched = story.play({}, {"alive": False}, {})
    (engine,) = watched.engines
    assert (engine.answers, engine.error, engine.since) == (False, "connection refused", 5102.0)
    assert (engine.held_bytes, engine.engine_id) == (10 << 21, "p"), "what was last known stays"
    assert (watched.leases, watched.sessions) == ([], None), "what it held is not known any more"
    assert list(watched.pasts[0].held) == [10 << 21, None, None]


def test_an_engine_that_never_answered_has_a_line_of_its_own(story: Story) -> None:
    (engine,) = story.play({"alive": False}).engines
    assert (engine.url, engine.answers, engine.held_bytes) == (URL, False, None)


def test_an_engine_that_returns_has_begun_to_count_anew(story: Story) -> None:
    watched = story.play(
        {},
        {"alive": False},
        {"alive": True, "counters": {"grants_total": 3, 'fence_checks_total{verdict="revoked"}': 1}},
    )
    (line,) = take([watched], story.now, 0.0).engines
    assert (line.now.answers, line.now.since, line.now.grants) == (True, None, 3)
    assert line.late_reads == 5, "the late reads before its restart are not forgotten"
    assert line.grants_per_s == 3 / 4
    assert line.restarted_s == 2.0
    assert line.late_lately


def test_without_routes_the_page_is_enough(story: Story) -> None:
    (engine,) = story.play({"routes": False}).engines
    assert (engine.answers, engine.admin, engine.note) == (True, False, watching.NO_ROUTES)
    assert engine.held_bytes == 10 << 21


def test_routes_that_were_not_there_are_asked_for_again_later(story: Story) -> None:
    assert not story.play({"routes": False}, {"routes": True}).engines[0].admin
    story.server.routes = False
    assert story.play(*[{}] * 14, {"routes": True}, {}, {}).engines[0].admin


def test_whoever_returns_may_have_routes(story: Story) -> None:
    watched = story.play({"routes": False}, {"alive": False}, {"alive": True, "routes": True})
    assert watched.engines[0].admin


@pytest.mark.parametrize(("key", "admin"), [(None, False), ("wrong", False), ("right", True)])
def test_routes_need_the_key(story: Story, key: str | None, admin: bool) -> None:
    (engine,) = story.play({"key": "right"}, key=key).engines
    assert engine.admin is admin
    assert engine.note == (None if admin else watching.FORBIDDEN)


def test_a_page_without_our_metrics_is_no_engine_of_ours(story: Story) -> None:
    (engine,) = story.play({"routes": False, "engines": []}).engines
    assert (engine.answers, engine.error) == (False, watching.NOT_OURS)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_page_whose_numbers_are_none_is_told_and_ends_nothing(story: Story, number: float) -> None:
    watched = story.play({"routes": False, "counters": {"grants_total": number}}, {"counters": {"grants_total": 3}})
    assert watched.engines[0].answers
    (engine,) = story.play({"counters": {"grants_total": number}}).engines
    assert (engine.answers, engine.error) == (False, watching.NO_PAGE)
