"""The frame of stall, long step and queue: requests wait on D, something happens, and D answers them."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from proof.demo.outcome import ActOutcome, Counts, Event, ScenarioName, tally
from proof.demo.stage import REQUESTS, Stage, waiting_on_decoder
from proof.demo.watch import HeldBlocksWatch
from proof.realengines.prompts import draw_prompts


@dataclass(frozen=True)
class Act:
    """A scenario under way. `before` is what the engines had counted; `queued_at` is when all requests waited on D."""

    stage: Stage
    before: Counts
    watch: HeldBlocksWatch
    queued_at: float

    async def say_leases_lost(self) -> None:
        lost = await self.stage.leases_lost_since(self.before)
        self.stage.story.say(f"P has ended {lost} of {REQUESTS} leases meanwhile")


Happening = Callable[[Act], Awaitable[list[Event]]]
"""The fault that befalls the engines. The events' times are `time.monotonic`; the first one's is the plot's zero."""


async def play(stage: Stage, scenario: ScenarioName, seed: int, happening: Happening) -> ActOutcome:
    """Queues requests on D, lets it happen, and compares D's answers with what P computes by itself."""
    prompts = draw_prompts(REQUESTS, seed=seed)
    right = await stage.right_answers(prompts)
    before = await stage.counts()
    with HeldBlocksWatch(stage.producer) as watch:
        async with waiting_on_decoder(stage, prompts) as requests:
            events = await happening(Act(stage, before, watch, requests.since))
            answers = await requests.let_them_run()
            events.append(Event(time.monotonic(), "answered"))
    zero = events[0].at_s
    return ActOutcome(
        scenario=scenario,
        connector=stage.connector,
        lease_s=stage.lease_s,
        answers=tally(answers, right),
        counts=(await stage.counts()).since(before),
        held=watch.series(zero),
        events=[replace(event, at_s=event.at_s - zero) for event in events],
    )
