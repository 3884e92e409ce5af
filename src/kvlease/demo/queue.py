"""Long queue: requests wait on a living, busy D for several terms of the lease."""

import time

from kvlease.cluster.prompts import draw_prompts
from kvlease.demo.outcome import Event, Outcome, tally
from kvlease.demo.stage import REQUESTS, Stage, waiting_on_decoder
from kvlease.demo.watch import HeldBlocksWatch

QUEUED_LEASES = 3.5
"""How long the requests wait, in lease durations."""

_SEED = 303


async def play(stage: Stage) -> Outcome:
    """Nothing fails here: D decodes one long answer after the other's turn, and P has new prompts all the time."""
    prompts = draw_prompts(REQUESTS, seed=_SEED)
    right = await stage.right_answers(prompts)
    before = await stage.counts()
    with HeldBlocksWatch(stage.producer, stage.connector) as watch:
        async with waiting_on_decoder(stage, prompts) as requests:
            queued_s = QUEUED_LEASES * stage.lease_s
            stage.show.say(f"D stays busy with another answer for {queued_s:g} s; P goes on with new prompts")
            with stage.show.busy(f"{REQUESTS} requests wait for {QUEUED_LEASES:g} terms of the lease"):
                while time.monotonic() - requests.since < queued_s:
                    await stage.one_new_prompt()
            begun = time.monotonic()
            stage.show.say(f"P has ended {await stage.leases_lost_since(before)} of {REQUESTS} leases meanwhile")
            answers = await requests.let_them_run()
            done = time.monotonic()
    return Outcome(
        scenario="queue",
        connector=stage.connector,
        lease_s=stage.lease_s,
        answers=tally(answers, right),
        counts=(await stage.counts()).since(before),
        held=(watch.series(requests.since),),
        events=(
            Event(0.0, "all queued"),
            Event(begun - requests.since, "D's turn", decides=True),
            Event(done - requests.since, "answered"),
        ),
    )
