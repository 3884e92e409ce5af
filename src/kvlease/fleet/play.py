"""One run of a policy under some traffic and some faults, on one core, and the same for the same seed.

The policies are exact: kvlease's is the product's code; flat terms and vLLM's lease follow vLLM 0.32 line by line. The
rest is a model, whose simplifications are named at the top of `engines`, `router` and `policies.agents`. In short:
there is no prefix caching, a producer computes one prompt at a time, a consumer reserves room for the whole output, the
network loses nothing and has no queue but the reader's link, and tensor parallel ranks do everything together.
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
    """Plays `arrivals`, which are read one by one and must be in the order of time. Returns the outcome.

    The run goes on after the last arrival until nothing is left. `on_progress` is called at the end of every request
    with the number of ended ones. Raises `ConfigError` for arrivals out of order and for faults of unknown engines.
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
    """Plans the arrivals and the faults, from which everything else follows."""
    trouble = FaultPlanner(simulated.context, faults, simulated.producers, simulated.consumers)
    Entrance(simulated.context, iter(arrivals), simulated.router.arrive, trouble.end)


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """A context without the search for reference cycles, of which a run has none: it took a fifth of the time."""
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searched:
            gc.enable()


class Entrance:
    """Lets requests in one by one, so that a trace of any length takes no memory."""

    def __init__(
        self,
        context: FleetContext,
        arrivals: Iterator[Arrival],
        on_arrival: Callable[[Arrival, int], None],
        on_last: Callable[[], None],
    ) -> None:
        """`on_arrival` is called with each request and its number, `on_last` when no more will come."""
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
