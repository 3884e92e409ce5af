"""A policy under some traffic and some faults: one run, on one core, and the same for the same seed.

What is exact: the policies. kvlease is its own code; flat terms and vLLM's lease follow vLLM 0.32 line by line. What is
a model, and how it deviates: the modules of `engines`, `router` and `policies.agents` say so, each at its top. On the
whole: no prefix caching, one prompt at a time on a producer, room for the whole output reserved on a consumer, a
network without loss whose only queue is the reader's link, tensor parallel ranks that do everything together.
"""

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from kvlease.errors import ConfigError
from kvlease.fleet.context import FleetContext
from kvlease.fleet.faults import FaultPlanner, check
from kvlease.fleet.leasing import Policy
from kvlease.fleet.outcome import FleetOutcome
from kvlease.fleet.settings import Fleet, FleetFaults
from kvlease.fleet.simulated import SimulatedFleet
from kvlease.fleet.summary import summary
from kvlease.fleet.traffic.arrival import Arrival


def play(
    fleet: Fleet,
    policy: Policy,
    arrivals: Iterable[Arrival],
    faults: FleetFaults,
    seed: int,
    on_progress: Callable[[int], None] | None = None,
) -> FleetOutcome:
    """What comes of `arrivals`, which are read one by one, each not before the one ahead of it.

    It goes on after the last arrival until nothing is left. `on_progress` is told of every request that ends: how many
    have. Raises `ConfigError` for arrivals out of order, and for faults of engines that are not there.
    """
    check(fleet, faults)
    began = time.perf_counter()
    simulated = SimulatedFleet(fleet, policy, seed)
    simulated.router.on_ended = on_progress
    let_in(simulated, arrivals, faults)
    context = simulated.context
    with no_search_for_cycles():
        context.agenda.run()
    context.books.close(context.agenda.now)
    return summary(context, policy, seed, time.perf_counter() - began)


def let_in(simulated: SimulatedFleet, arrivals: Iterable[Arrival], faults: FleetFaults) -> None:
    """Plans that requests come and things go wrong. Everything else follows from that."""
    trouble = FaultPlanner(simulated.context, faults, simulated.producers, simulated.consumers)
    Entrance(simulated.context, iter(arrivals), simulated.router.arrive, trouble.end)


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

    def __init__(
        self,
        context: FleetContext,
        arrivals: Iterator[Arrival],
        on_arrival: Callable[[Arrival, int], None],
        on_last: Callable[[], None],
    ) -> None:
        """`on_arrival` is told of each request and its number, `on_last` that no more will come."""
        self._agenda = context.agenda
        self._books = context.books
        self._arrivals = arrivals
        self._on_arrival = on_arrival
        self._on_last = on_last
        self._number = 0
        self._expect_next()

    def _expect_next(self) -> None:
        arrival = next(self._arrivals, None)
        now = self._agenda.now
        if arrival is None:
            self._on_last()
            self._books.close_window(now)
            return
        if arrival.at < now or arrival.prompt < 1 or arrival.output < 1:
            raise ConfigError(
                f"request {self._number} is {arrival}: it must not come before {now:g} s, when the one ahead of it "
                "came, and have at least one token of prompt and of output"
            )
        self._agenda.at(arrival.at, self._arrive, arrival)

    def _arrive(self, arrival: Arrival) -> None:
        self._on_arrival(arrival, self._number)
        self._number += 1
        self._expect_next()
