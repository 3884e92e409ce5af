"""Long step: one step of D takes longer than the lease, while its scheduler's process lives."""

import asyncio
import time

from kvlease.cluster.prompts import draw_prompts
from kvlease.demo.outcome import Event, Outcome, tally
from kvlease.demo.stage import REQUESTS, Stage, waiting_on_decoder
from kvlease.demo.watch import HeldBlocksWatch

STEP_LEASES = 1.5
"""How long the step takes at least, in lease durations."""

_SEED = 202


async def play(stage: Stage) -> Outcome:
    """D's worker is stopped in the middle of a step. Nothing is wrong with D's scheduler: it only waits."""
    prompts = draw_prompts(REQUESTS, seed=_SEED)
    right = await stage.right_answers(prompts)
    before = await stage.counts()
    with HeldBlocksWatch(stage.producer, stage.connector) as watch:
        async with waiting_on_decoder(stage, prompts) as requests:
            stopped = time.monotonic()
            stage.decoder.pause_worker()
            try:
                stage.show.say("D's step has become a long one (SIGSTOP to its worker; its scheduler lives)")
                with stage.show.busy(f"the step takes longer than the lease of {stage.lease_s:g} s"):
                    await asyncio.sleep(STEP_LEASES * stage.lease_s)
                stage.show.say(f"P has ended {await stage.leases_lost_since(before)} of {REQUESTS} leases meanwhile")
                await stage.overwrite_free_blocks()
                stage.show.say("P has used every block that is free for new prompts")
            finally:
                stage.decoder.resume_worker()
            continued = time.monotonic()
            stage.show.say(f"the step ends after {continued - stopped:.1f} s, and D answers what it had queued")
            answers = await requests.let_them_run()
            done = time.monotonic()
    return Outcome(
        scenario="long-step",
        connector=stage.connector,
        lease_s=stage.lease_s,
        answers=tally(answers, right),
        counts=(await stage.counts()).since(before),
        held=(watch.series(stopped),),
        events=(
            Event(0.0, "step begins"),
            Event(continued - stopped, "step ends", decides=True),
            Event(done - stopped, "answered"),
        ),
    )
