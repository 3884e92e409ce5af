"""The order of the stops: kvlease's P drained many times, then both connectors' P without a drain, a few times."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from kvlease.console.progress import Story
from proof.drain.outcome import DOORS, Door, StopOutcome, StopsRun
from proof.drain.report import describe_stop, describe_stretch
from proof.drain.stage import StopsStage
from proof.drain.traffic import Tokens
from proof.realengines.cores import choose_cores
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import open_client
from proof.realengines.spec import CONNECTORS, Connector

LEAD_S = (2.5, 5.0)
"""The shortest and the longest time for which P serves between its start and its stop."""
TAIL_S = 1.0
"""The time for which traffic goes on after the last stop."""
PROMPTS = 40
_PROMPT_SEED, _SEED = 9100, 9101
_SHORTEST, _LONGEST = 200, 1500


@dataclass(frozen=True, kw_only=True)
class StopsSettings:
    """The choice of what to play: drained stops of kvlease, and stops without a drain of each connector."""

    stops: int
    at_once: int
    model: Path
    logs: Path


async def play(settings: StopsSettings, story: Story, keep: Callable[[StopsRun], object]) -> list[StopsRun]:
    """Plays everything. `keep` gets each run when it ends. Raises EngineError where it cannot go on.

    Any end of this (an error, Ctrl-C) ends the engines too.
    """
    runs: list[StopsRun] = []
    async with open_client() as http:
        for connector in reversed(CONNECTORS):
            stretches = _stretches(settings, connector)
            if not stretches:
                continue
            with ExitStack() as life:
                stage = StopsStage.of(connector, settings.model, settings.logs, choose_cores(), http, life)
                rights = await _begin(stage, story)
                for drained, stops in stretches:
                    runs.append(await _stretch(stage, rights, drained, stops, story))
                    keep(runs[-1])
    return runs


def _stretches(settings: StopsSettings, connector: Connector) -> list[tuple[bool, int]]:
    """The stretches of traffic: whether P is drained, and how often it is stopped."""
    drained = [(True, settings.stops)] if connector == "kvlease" else []
    return [*drained, *([(False, settings.at_once)] if settings.at_once else [])]


async def _begin(stage: StopsStage, story: Story) -> dict[str, Tokens]:
    with story.busy(f"both engines start, and D computes the right answers to {PROMPTS} prompts alone"):
        await stage.start(stage.p, stage.d)
        return await stage.right_answers(draw_prompts(PROMPTS, seed=_PROMPT_SEED, shortest=_SHORTEST, longest=_LONGEST))


async def _stretch(stage: StopsStage, rights: dict[str, Tokens], drained: bool, count: int, story: Story) -> StopsRun:
    story.title(
        f"{stage.connector}: P is stopped {count} times, {'drained before' if drained else 'with SIGTERM alone'}"
    )
    began = time.monotonic()
    draw = random.Random(_SEED)
    doors: Iterator[Door | None] = cycle(DOORS) if drained else cycle([None])
    traffic = stage.traffic(rights, _SEED)
    stops: list[StopOutcome] = []

    def run() -> StopsRun:
        took_s = time.monotonic() - began
        return StopsRun(
            connector=stage.connector, drained=drained, stops=stops, requests=traffic.ends, took_s=round(took_s, 1)
        )

    async with traffic.going_on():
        for number, door in zip(range(1, count + 1), doors, strict=False):
            if not stage.p.is_alive():
                await stage.start(stage.p)
            await asyncio.sleep(draw.uniform(*LEAD_S))
            stops.append(await stage.stop(door))
            story.say(describe_stop(run(), number, count))
        await asyncio.sleep(TAIL_S)
    story.say(describe_stretch(run()))
    return run()
