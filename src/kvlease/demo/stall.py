"""Decoder stall: D stands still beyond its leases, P gives the blocks to new prompts, D goes on."""

import asyncio
import time

from kvlease.cluster.prompts import draw_prompts
from kvlease.demo.outcome import Event, Outcome, tally
from kvlease.demo.stage import REQUESTS, Stage, waiting_on_decoder
from kvlease.demo.watch import HeldBlocksWatch

_SEED = 101


async def play(stage: Stage) -> Outcome:
    """D's whole process group is stopped; with it stop all renewals, so every lease runs out."""
    prompts = draw_prompts(REQUESTS, seed=_SEED)
    right = await stage.right_answers(prompts)
    before = await stage.counts()
    with HeldBlocksWatch(stage.producer, stage.connector) as watch:
        async with waiting_on_decoder(stage, prompts) as requests:
            stopped = time.monotonic()
            stage.decoder.pause()
            try:
                stage.show.say("D is stopped (SIGSTOP to all its processes)")
                freed = await asyncio.to_thread(watch.wait_until_free, 4 * stage.lease_s)
                stage.show.say(f"P has taken all blocks back, {freed - stopped:.1f} s after the stop")
                await stage.overwrite_free_blocks()
                stage.show.say("P has used every block for new prompts")
            finally:
                stage.decoder.resume()
            continued = time.monotonic()
            stage.show.say("D goes on (SIGCONT), and answers what it had queued")
            answers = await requests.let_them_run()
            done = time.monotonic()
    return Outcome(
        scenario="stall",
        connector=stage.connector,
        lease_s=stage.lease_s,
        answers=tally(answers, right),
        counts=(await stage.counts()).since(before),
        held=(watch.series(stopped),),
        events=(
            Event(0.0, "D stopped"),
            Event(freed - stopped, "blocks free"),
            Event(continued - stopped, "D goes on", decides=True),
            Event(done - stopped, "answered"),
        ),
    )
