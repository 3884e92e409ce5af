"""The order of the scenes: each router gets each fault, and a start of its own; the engines stay."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import httpx

from kvlease.console.progress import Story
from proof.failover.arms import FailoverArm
from proof.failover.outcome import FAULTS, FailoverFault, SceneRun
from proof.failover.report import describe_scene
from proof.failover.stage import FailoverStage, PrefillCount
from proof.failover.traffic import EndlessStreams, RightTokens
from proof.realengines.cores import choose_cores
from proof.realengines.engine import EngineError
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import open_client
from proof.realengines.routers import RouterSpec, StartedRouter, require_routers

STREAMS = 16
PROMPTS = 24
LEFT_AFTER_S = 3.0
"""The time after the last answer by which P is to hold nothing."""
_PROMPT_SEED = 9401
_SHORTEST, _LONGEST = 400, 900
_LEAD = 24
"""The answers that there are before a fault."""
_LEAD_WITHIN_S = 60.0
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class FailoverSettings:
    """The choice of what to play."""

    arms: Sequence[FailoverArm]
    faults: Sequence[FailoverFault]
    streams: int
    model: Path
    logs: Path


async def play(settings: FailoverSettings, story: Story, keep: Callable[[SceneRun], object]) -> list[SceneRun]:
    """Plays everything. `keep` gets each scene when it ends. Raises EngineError where it cannot go on.

    Raises RouterError, before anything starts, where a router is not here. Any end of this (an error, Ctrl-C) ends the
    engines too.
    """
    require_routers(arm.kind for arm in settings.arms)
    runs: list[SceneRun] = []
    rights: dict[str, RightTokens] = {}
    async with open_client() as http:
        for connector, arms in groupby(settings.arms, key=lambda arm: arm.connector):
            with ExitStack() as life:
                stage = FailoverStage.of(connector, settings.model, settings.logs, choose_cores(), http, life)
                with story.busy(f"vLLM engines are starting: {connector}, one P and two Ds"):
                    await stage.start()
                if not rights:
                    prompts = draw_prompts(PROMPTS, seed=_PROMPT_SEED, shortest=_SHORTEST, longest=_LONGEST)
                    with story.busy(f"D computes the right answers to {PROMPTS} prompts alone"):
                        rights = await stage.right_answers(prompts)
                for arm in arms:
                    story.title(arm.heading)
                    for fault in settings.faults:
                        with story.busy(f"{FAULTS[fault]}: the engines are made ready"):
                            await stage.start()
                        runs.append(await _scene(settings, stage, arm, fault, rights, http))
                        story.say(describe_scene(runs[-1]))
                        keep(runs[-1])
    return runs


async def _scene(
    settings: FailoverSettings,
    stage: FailoverStage,
    arm: FailoverArm,
    fault: FailoverFault,
    rights: dict[str, RightTokens],
    http: httpx.AsyncClient,
) -> SceneRun:
    began = time.monotonic()
    spec = RouterSpec(
        kind=arm.kind,
        prefill=(stage.p.url,),
        decode=(stage.hit.url, stage.spare.url),
        module=arm.module,
        options=arm.options,
        name=f"{arm.name}-{fault}",
    )
    before = stage.prefilled()
    with ExitStack() as life:
        router = StartedRouter(spec, settings.logs)
        life.callback(router.kill)
        await asyncio.to_thread(router.start)
        streams = EndlessStreams(http, router.url, rights, settings.streams)
        async with streams.going_on():
            await _lead(streams)
            async with stage.befallen(fault) as fault_at:
                await stage.outlast(fault)
        await asyncio.sleep(LEFT_AFTER_S)
        left = await asyncio.to_thread(stage.p.held_blocks)
        await stage.wait_idle()
    counted = None if fault == "p-killed" else _since(stage.prefilled(), before)
    return SceneRun(
        arm=arm.name,
        fault=fault,
        fault_at=fault_at,
        requests=tuple(streams.ends),
        prefills=counted and counted.prompts,
        prefilled_tokens=counted and counted.tokens,
        left=left,
        took_s=round(time.monotonic() - began, 1),
    )


def _since(now: PrefillCount, before: PrefillCount) -> PrefillCount:
    return PrefillCount(now.prompts - before.prompts, now.tokens - before.tokens)


async def _lead(streams: EndlessStreams) -> None:
    """Waits until traffic is under way. Raises EngineError where it is not."""
    deadline = time.monotonic() + _LEAD_WITHIN_S
    while streams.answered < _LEAD:
        if time.monotonic() > deadline:
            raise EngineError(f"only {streams.answered} answers within {_LEAD_WITHIN_S:g} s, before any fault")
        await asyncio.sleep(_POLL_S)
