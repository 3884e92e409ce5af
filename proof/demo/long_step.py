"""Long step: one step of D takes longer than the lease, while its scheduler's process lives."""

import asyncio
import time

from proof.demo import act
from proof.demo.outcome import ActOutcome, Event
from proof.demo.stage import Stage

STEP_LEASES = 1.5
"""The shortest time that the step takes, in lease durations."""

_SEED = 202


async def play(stage: Stage) -> ActOutcome:
    """D's worker is stopped in the middle of a step. Nothing is wrong with D's scheduler: it only waits."""
    return await act.play(stage, "long-step", _SEED, _take_long)


async def _take_long(scene: act.Act) -> list[Event]:
    stage = scene.stage
    begun = time.monotonic()
    stage.decoder.pause_worker()
    try:
        stage.story.say("D's step has become a long one (SIGSTOP to its worker; its scheduler lives)")
        with stage.story.busy(f"the step takes longer than the lease of {stage.lease_s:g} s"):
            await asyncio.sleep(STEP_LEASES * stage.lease_s)
        await scene.say_leases_lost()
        await stage.overwrite_free_blocks()
        stage.story.say("P has used every block that is free for new prompts")
    finally:
        stage.decoder.resume_worker()
    ended = time.monotonic()
    stage.story.say(f"the step ends after {ended - begun:.1f} s, and D answers what it had queued")
    return [Event(begun, "step begins"), Event(ended, "step ends", decides=True)]
