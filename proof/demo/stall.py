"""Decoder stall: D stands still beyond its leases, with or without P giving the blocks to others, and goes on."""

import asyncio
import time

from proof.demo import act
from proof.demo.outcome import ActOutcome, Event
from proof.demo.stage import Stage

_SEED = 101
_FREE_SEED = 102


async def play_reused(stage: Stage) -> ActOutcome:
    """D's whole process group is stopped; with it stop all renewals, and P gives the blocks to new prompts."""
    return await act.play(stage, "stall", _SEED, lambda scene: _stand_still(scene, reuse=True))


async def play_free(stage: Stage) -> ActOutcome:
    """The same stall, in which P has memory to spare: the blocks are free, and nobody is given them."""
    return await act.play(stage, "stall-free", _FREE_SEED, _stand_still)


async def _stand_still(scene: act.Act, reuse: bool = False) -> list[Event]:
    stage = scene.stage
    stopped = time.monotonic()
    stage.decoder.pause()
    try:
        stage.story.say("D is stopped (SIGSTOP to all its processes)")
        freed = await asyncio.to_thread(scene.watch.wait_until_free, 4 * stage.lease_s)
        stage.story.say(f"all of P's blocks are free, {freed - stopped:.1f} s after the stop")
        if reuse:
            await stage.overwrite_free_blocks()
            stage.story.say("P has used every block for new prompts")
    finally:
        stage.decoder.resume()
    continued = time.monotonic()
    stage.story.say("D goes on (SIGCONT), and answers what it had queued")
    return [Event(stopped, "D stopped"), Event(freed, "blocks free"), Event(continued, "D goes on", decides=True)]
