"""Decoder crash: D is killed while requests wait on it. How long does P hold their blocks for nobody, and what becomes
of the references that another D is sent afterwards?"""

import asyncio
import time
from dataclasses import replace

from proof.demo.outcome import ActOutcome, Event, tally
from proof.demo.stage import ANSWER_TOKENS, REQUESTS, Stage, waiting_on_decoder
from proof.demo.watch import HeldBlocksWatch
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import Reference

RENEWED_AFTER_LEASES = 1 / 6
"""The time for which the requests wait before the crash, in lease durations: one interval of renewals."""

_SEED = 404
_FREE_WITHIN_LEASES = 2


async def play(stage: Stage) -> ActOutcome:
    """Plays the crash and, with kvlease, the second use of its references."""
    prompts = draw_prompts(REQUESTS, seed=_SEED)
    right = await stage.right_answers(prompts)
    with HeldBlocksWatch(stage.producer) as watch:
        async with waiting_on_decoder(stage, prompts) as requests:
            with stage.story.busy("they wait until their leases have been renewed once"):
                await asyncio.sleep(RENEWED_AFTER_LEASES * stage.lease_s)
            killed = await asyncio.to_thread(stage.decoder.kill)
            stage.story.say("D is killed (SIGKILL to all its processes)")
        with stage.story.busy("P holds the blocks of a consumer that is dead"):
            freed = await asyncio.to_thread(watch.wait_until_free, _FREE_WITHIN_LEASES * stage.lease_s)
        after_s = freed - killed
        stage.story.say(f"P's blocks are free {after_s:.2f} s after the crash")
        outcome = ActOutcome(
            scenario="crash",
            connector=stage.connector,
            lease_s=stage.lease_s,
            freed_after_s=after_s,
            events=[Event(0.0, "D killed"), Event(after_s, "blocks free")],
        )
        # Stock has nothing that could tell whether such a read is right.
        if stage.connector == "kvlease":
            outcome = await _use_again(stage, outcome, requests.references, right, killed)
        return replace(outcome, held=watch.series(killed))


async def _use_again(
    stage: Stage, crash: ActOutcome, references: list[Reference], right: list[tuple[int, ...]], killed: float
) -> ActOutcome:
    """Sends another D what the dead one had not read: its blocks are free, and nobody was given them meanwhile."""
    await stage.restart_decoder()
    before = await stage.counts()
    read = Event(time.monotonic() - killed, "another D reads", decides=True)
    answers = [await stage.router.decode(reference, ANSWER_TOKENS) for reference in references]
    counts = (await stage.counts()).since(before)
    return replace(crash, answers=tally(answers, right), counts=counts, events=[*crash.events, read])
