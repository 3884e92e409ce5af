"""Decoder crash: D is killed while requests wait on it; how long does P hold their blocks for nobody?"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from proof.demo.outcome import ActOutcome, Event
from proof.demo.promises import NO_GRACE_LABEL
from proof.demo.stage import REQUESTS, Stage, waiting_on_decoder
from proof.demo.watch import HeldBlocksWatch
from proof.realengines.prompts import draw_prompts

RENEWED_AFTER_LEASES = 1 / 6
"""The time for which the requests wait before the crash, in lease durations: one interval of renewals."""

_SEED = 404
_FREE_WITHIN_LEASES = 2


async def play(stage: Stage, label: str) -> ActOutcome:
    """Plays one crash. `label` says what is special about this P ("grace 1 s"); its figure bears that name."""
    prompts = draw_prompts(REQUESTS, seed=_SEED)
    # The curve is called "kvlease" alone where kvlease runs with its defaults.
    series_label = f"{stage.connector}, {label}" if label == NO_GRACE_LABEL else stage.connector
    with HeldBlocksWatch(stage.producer, series_label) as watch:
        async with waiting_on_decoder(stage, prompts):
            with stage.story.busy("they wait until their leases have been renewed once"):
                await asyncio.sleep(RENEWED_AFTER_LEASES * stage.lease_s)
            killed = await asyncio.to_thread(stage.decoder.kill)
            stage.story.say("D is killed (SIGKILL to all its processes)")
        with stage.story.busy("P holds the blocks of a consumer that is dead"):
            freed = await asyncio.to_thread(watch.wait_until_free, _FREE_WITHIN_LEASES * stage.lease_s)
        after_s = freed - killed
        stage.story.say(f"P's blocks are free {after_s:.2f} s after the crash ({label})")
    return ActOutcome(
        scenario="crash",
        connector=stage.connector,
        lease_s=stage.lease_s,
        freed_after_s={label: after_s},
        held=[watch.series(killed)],
        events=[Event(0.0, "D killed"), Event(after_s, f"blocks free ({label})")],
    )


def together(outcomes: Sequence[ActOutcome]) -> ActOutcome:
    """Joins several crashes with one connector into one outcome."""
    return replace(
        outcomes[0],
        freed_after_s={label: seconds for outcome in outcomes for label, seconds in outcome.freed_after_s.items()},
        held=[series for outcome in outcomes for series in outcome.held],
        events=[event for outcome in outcomes for event in outcome.events],
        took_s=sum(outcome.took_s for outcome in outcomes),
    )
