"""Failover: one of two Ds is killed under streams. How many requests that have no token yet are answered all the same?

Stock engines are behind vLLM's own toy proxy, kvlease's behind `kvlease router`: the routers that each comes with.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from proof.demo.outcome import ActOutcome, Answers, Event
from proof.demo.stage import Stage
from proof.demo.watch import HeldBlocksWatch
from proof.failover.outcome import StreamEnd
from proof.failover.traffic import EndlessStreams
from proof.realengines.engine import Engine
from proof.realengines.prompts import draw_prompts
from proof.realengines.routers import ROUTER_NAMES, RouterKind, RouterProcess, RouterSpec
from proof.realengines.spec import Connector

STREAMS = 6
PROMPTS = 12
BEHIND: Mapping[Connector, RouterKind] = {"stock": "toy", "kvlease": "kvlease"}
"""The router that the engines of each connector are behind."""

_SEED = 505
_SHORTEST, _LONGEST = 200, 400
_LEAD = 6
"""The answers that there are before D is killed."""
_AFTER = 12
"""The requests that end after that, before no more are sent."""
_WITHIN_S = 30.0
_POLL_S = 0.02


async def play(stage: Stage, spare: Engine, logs: Path) -> ActOutcome:
    """Plays it on the stage's engines and another D, which is the only one afterwards."""
    prompts = draw_prompts(PROMPTS, seed=_SEED, shortest=_SHORTEST, longest=_LONGEST)
    rights = dict(zip(prompts, await stage.right_answers(prompts), strict=True))
    kind = BEHIND[stage.connector]
    spec = RouterSpec(
        kind=kind,
        prefill=(stage.producer.url,),
        decode=(stage.decoder.url, spare.url),
        name=f"{stage.connector}-router",
    )
    before = await asyncio.to_thread(_prefills, stage.producer)
    with ExitStack() as life:
        watch = life.enter_context(HeldBlocksWatch(stage.producer))
        router = RouterProcess(spec, logs)
        life.callback(router.kill)
        await asyncio.to_thread(router.start)
        streams = EndlessStreams(stage.client, router.url, rights, STREAMS)
        async with streams.going_on():
            await _until(streams, _LEAD)
            killed = await asyncio.to_thread(stage.decoder.kill)
            stage.story.say(f"one of two Ds is killed under {STREAMS} streams through {ROUTER_NAMES[kind]}")
            await _until(streams, streams.answered + _AFTER)
        again = await asyncio.to_thread(_prefills, stage.producer) - before - streams.answered
    return ActOutcome(
        scenario="failover",
        connector=stage.connector,
        lease_s=stage.lease_s,
        answers=_tally([end for end in streams.ends if end.ended_at > killed and not end.had_token_at(killed)]),
        again=max(0, again),
        held=watch.series(killed),
        events=[Event(0.0, "one of two Ds killed")],
    )


def _prefills(producer: Engine) -> int:
    return round(sum(producer.metrics().by_label("vllm:request_success_total", "finished_reason").values()))


async def _until(streams: EndlessStreams, answered: int) -> None:
    """Waits until so many requests have ended, or for as long as that may take."""
    deadline = time.monotonic() + _WITHIN_S
    while streams.answered < answered and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)


def _tally(ends: list[StreamEnd]) -> Answers:
    fates = Counter(end.fate for end in ends)
    right, wrong = fates["right"], fates["wrong"]
    statuses = Counter(end.status for end in ends if end.status is not None)
    return Answers(right=right, wrong=wrong, failed=len(ends) - right - wrong, statuses=dict(statuses))
