"""The sources of requests, made or recorded, and the rate at which a fleet can serve them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from kvlease.errors import KvLeaseError
from kvlease.fleet.settings import Fleet
from kvlease.fleet.traffic import made, traces
from kvlease.fleet.traffic.arrival import Arrival
from kvlease.fleet.traffic.made import MadeTraffic
from kvlease.fleet.traffic.traces import Trace

Source = MadeTraffic | Trace

LOOKED_AT = 20_000
"""The number of requests of which means are taken."""


class SourceError(KvLeaseError, ValueError):
    """Requests that cannot be played. The message names the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The means of some requests."""

    rate: float
    """The requests a second."""
    prompt: float
    output: float
    """The mean tokens of an output."""


def requests(source: Source, count: int, seed: int) -> Iterator[Arrival]:
    """Yields the first `count` requests; a trace that has fewer is repeated. `seed` is for made ones only. Raises
    `TraceError`."""
    if isinstance(source, MadeTraffic):
        return made.arrivals(source, count, seed)
    return traces.arrivals(replace(source, count=count))


def shape(arrivals: Iterable[Arrival]) -> Shape:
    """Returns the means of requests. Raises `SourceError` if there is no time between them."""
    number = prompts = outputs = 0
    first = last = 0.0
    for arrival in arrivals:
        first = arrival.at if not number else first
        last = arrival.at
        number += 1
        prompts += arrival.prompt
        outputs += arrival.output
    if last <= first:
        raise SourceError(f"{number} requests that all come at the same time have no rate: give more of them")
    return Shape((number - 1) / (last - first), prompts / number, outputs / number)


def look(source: Source, count: int, seed: int) -> Shape:
    """Returns the means of the first requests; a trace is not repeated. Raises `TraceError`, `SourceError`."""
    if isinstance(source, MadeTraffic):
        found = shape(requests(source, min(count, LOOKED_AT), seed))
        # The rate is known, and these requests have too few spells of calm and burst to show it.
        return replace(found, rate=source.rate)
    return shape(islice(traces.arrivals(replace(source, count=None)), min(count, LOOKED_AT)))


def at_rate(source: Source, rate: float, found: Shape) -> Source:
    """Returns the same requests, `rate` of them a second on average."""
    if isinstance(source, MadeTraffic):
        return replace(source, rate=rate)
    return replace(source, speed=source.speed * rate / found.rate)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The requests a second that each side of a fleet can serve for ever, if they come evenly."""

    producers: float
    consumers: float

    @property
    def least(self) -> float:
        """The capacity of the side that is full first."""
        return min(self.producers, self.consumers)


def capacity(fleet: Fleet, found: Shape) -> Capacity:
    """Returns a fleet's capacity for requests of this mean shape: an estimate without reads, hops and waiting for
    memory on producers."""
    prefill_s = fleet.prefill_fixed_s + found.prompt / fleet.prefill_tokens_per_s
    in_memory = fleet.consumer_blocks / max(fleet.blocks_of(int(found.prompt + found.output)), 1)
    at_once = max(min(fleet.consumer_seats, in_memory), 1.0)
    decode_s = found.output * (fleet.step_fixed_s + at_once * fleet.step_per_request_s)
    return Capacity(fleet.producers / prefill_s, fleet.consumers * at_once / decode_s)


def fits(fleet: Fleet, arrival: Arrival) -> bool:
    """Tells whether the engines' memory has room for a request."""
    in_all = fleet.blocks_of(arrival.prompt + arrival.output)
    return fleet.blocks_of(arrival.prompt) <= fleet.producer_blocks and in_all <= fleet.consumer_blocks
