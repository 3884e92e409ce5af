"""Decoder stall: D stands still beyond its leases, P gives the blocks to new prompts, D goes on."""

import asyncio
import time

from proof.demo import act
from proof.demo.outcome import ActOutcome, Event
from proof.demo.stage import Stage

_SEED = 101


async def play(stage: Stage) -> ActOutcome:
    """D's whole process group is stopped; with it stop all renewals, so every lease runs out."""
    return await act.play(stage, "stall", _SEED, _stand_still)


async def _stand_still(scene: act.Act) -> list[Event]:
    stage = scene.stage
    stopped = time.monotonic()
    stage.decoder.pause()
    try:
        stage.story.say("D is stopped (SIGSTOP to all its processes)")
        freed = await asyncio.to_thread(scene.watch.wait_until_free, 4 * stage.lease_s)
        stage.story.say(f"P has taken all blocks back, {freed - stopped:.1f} s after the stop")
        await stage.overwrite_free_blocks()
        stage.story.say("P has used every block for new prompts")
    finally:
        stage.decoder.resume()
    continued = time.monotonic()
    stage.story.say("D goes on (SIGCONT), and answers what it had queued")
    return [Event(stopped, "D stopped"), Event(freed, "blocks free"), Event(continued, "D goes on", decides=True)]
