"""Long queue: requests wait on a living, busy D for several terms of the lease."""

import time

from proof.demo import act
from proof.demo.outcome import ActOutcome, Event
from proof.demo.stage import REQUESTS, Stage

QUEUED_LEASES = 3.5
"""The time for which the requests wait, in lease durations."""

_SEED = 303


async def play(stage: Stage) -> ActOutcome:
    """Nothing fails here: D decodes a long answer, and P has new prompts all the time."""
    return await act.play(stage, "queue", _SEED, _wait_for_a_seat)


async def _wait_for_a_seat(scene: act.Act) -> list[Event]:
    stage = scene.stage
    queued_s = QUEUED_LEASES * stage.lease_s
    stage.story.say(f"D stays busy with another answer for {queued_s:g} s; P goes on with new prompts")
    with stage.story.busy(f"{REQUESTS} requests wait for {QUEUED_LEASES:g} terms of the lease"):
        while time.monotonic() - scene.queued_at < queued_s:
            await stage.one_new_prompt()
    turn = time.monotonic()
    await scene.say_leases_lost()
    return [Event(scene.queued_at, "all queued"), Event(turn, "D's turn", decides=True)]
