"""A play whose routers are not all here says so before it starts anything, and how to get them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from kvlease.console.progress import Story, open_console
from proof.demo import play as demo
from proof.failover import play as failover
from proof.failover.arms import ARMS
from proof.realengines import routers
from proof.realengines.engine import Engine
from proof.realengines.routers import RouterError
from proof.realengines.spec import CONNECTORS


def the_demo(here: Path) -> None:
    chosen = demo.DemoSettings(
        connectors=CONNECTORS, scenarios=["stall", "failover"], model=here, logs=here, lease_s=6.0
    )
    asyncio.run(demo.play(chosen, Story(open_console())))


def the_failover(here: Path) -> None:
    chosen = failover.FailoverSettings(arms=ARMS, faults=["killed"], streams=2, model=here, logs=here)
    asyncio.run(failover.play(chosen, Story(open_console()), lambda _: None))


@pytest.mark.parametrize("play", [the_demo, the_failover])
def test_a_router_that_is_not_here_is_told_before_anything_starts(
    play: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_starts(tmp_path, monkeypatch)
    with pytest.raises(RouterError, match="`make routers` fetches it"):
        play(tmp_path)


def nothing_starts(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object) -> None:
        pytest.fail("something was started")

    monkeypatch.setattr(routers, "TOY_PROXY", nowhere / "toy.py")
    monkeypatch.setattr(routers, "ROUTERS", nowhere)
    monkeypatch.setattr(Engine, "start", started)
