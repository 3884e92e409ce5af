"""A policy under some traffic and some faults: one run, on one core, and the same for the same seed.

What is exact: the policies. kvlease is its own code; flat terms and vLLM's lease follow vLLM 0.32 line by line. What is
a model, and how it deviates: `prefill`, `decode`, `batch`, `memory`, `router` and `agents` say so, each at its top. On
the whole: no prefix caching, one prompt at a time on a producer, room for the whole output reserved on a consumer, a
network without loss whose only queue is the reader's link, tensor parallel ranks that do everything together.
"""

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from kvlease.errors import ConfigError
from kvlease.fleet.arrival import Arrival
from kvlease.fleet.faults import Trouble, check
from kvlease.fleet.leasing import Policy
from kvlease.fleet.outcome import Outcome
from kvlease.fleet.settings import Faults, Fleet
from kvlease.fleet.summary import summary
from kvlease.fleet.world import World


def play(
    fleet: Fleet,
    policy: Policy,
    arrivals: Iterable[Arrival],
    faults: Faults,
    seed: int,
    on_progress: Callable[[int], None] | None = None,
) -> Outcome:
    """What comes of `arrivals`, which are read one by one, each not before the one ahead of it.

    It goes on after the last arrival until nothing is left. `on_progress` is told of every request that ends: how many
    have. Raises `ConfigError` for arrivals out of order, and for faults of engines that are not there.
    """
    check(fleet, faults)
    began = time.perf_counter()
    world = World(fleet, policy, seed)
    world.router.on_ended = on_progress
    Entrance(world, iter(arrivals), Trouble(world, faults))
    with no_search_for_cycles():
        world.agenda.run()
    world.books.close(world.agenda.now)
    return summary(world, policy, seed, time.perf_counter() - began)


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """What is through refers to nothing that refers to it, so there are none: looking took a fifth of the time."""
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searched:
            gc.enable()


class Entrance:
    """Lets requests in, one by one; so a trace of any length takes no memory."""

    def __init__(self, world: World, arrivals: Iterator[Arrival], trouble: Trouble) -> None:
        self._world = world
        self._arrivals = arrivals
        self._trouble = trouble
        self._number = 0
        self._expect_next()

    def _expect_next(self) -> None:
        arrival = next(self._arrivals, None)
        now = self._world.agenda.now
        if arrival is None:
            self._trouble.end()
            self._world.books.close_window(now)
            return
        if arrival.at < now or arrival.prompt < 1 or arrival.output < 1:
            raise ConfigError(
                f"request {self._number} is {arrival}: it must not come before {now:g} s, when the one ahead of it "
                "came, and have at least one token of prompt and of output"
            )
        self._world.agenda.at(arrival.at, self._arrive, arrival)

    def _arrive(self, arrival: Arrival) -> None:
        self._world.router.arrive(arrival, self._number)
        self._number += 1
        self._expect_next()
