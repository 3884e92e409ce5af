"""Where requests come from, made or recorded, and at which rate a fleet can take them."""

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
"""Requests of which means are taken."""


class SourceError(KvLeaseError, ValueError):
    """These requests cannot be played. The message names the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Means of some requests."""

    rate: float
    """Requests a second."""
    prompt: float
    output: float
    """Tokens."""


def requests(source: Source, count: int, seed: int) -> Iterator[Arrival]:
    """The first `count` requests; a trace that has fewer is repeated. `seed` matters to made ones only. Raises
    `TraceError`."""
    if isinstance(source, MadeTraffic):
        return made.arrivals(source, count, seed)
    return traces.arrivals(replace(source, count=count))


def shape(arrivals: Iterable[Arrival]) -> Shape:
    """Raises `SourceError` where there is no time between the requests."""
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
    """Means of the first requests, those of a trace not repeated. Raises `TraceError`, `SourceError`."""
    if isinstance(source, MadeTraffic):
        found = shape(requests(source, min(count, LOOKED_AT), seed))
        # So few spells of calm and burst say nothing about the rate, which is known.
        return replace(found, rate=source.rate)
    return shape(islice(traces.arrivals(replace(source, count=None)), min(count, LOOKED_AT)))


def at_rate(source: Source, rate: float, found: Shape) -> Source:
    """The same requests, `rate` of them a second on average."""
    if isinstance(source, MadeTraffic):
        return replace(source, rate=rate)
    return replace(source, speed=source.speed * rate / found.rate)


@dataclass(frozen=True, slots=True)
class Capacity:
    """Requests a second that each side of a fleet can do for ever, if they came evenly."""

    producers: float
    consumers: float

    @property
    def least(self) -> float:
        """Of the side that is full first."""
        return min(self.producers, self.consumers)


def capacity(fleet: Fleet, found: Shape) -> Capacity:
    """For requests of this mean shape. An estimate: it leaves out reads, hops and waiting for memory on producers."""
    prefill_s = fleet.prefill_fixed_s + found.prompt / fleet.prefill_tokens_per_s
    in_memory = fleet.consumer_blocks / max(fleet.blocks_of(int(found.prompt + found.output)), 1)
    at_once = max(min(fleet.consumer_seats, in_memory), 1.0)
    decode_s = found.output * (fleet.step_fixed_s + at_once * fleet.step_per_request_s)
    return Capacity(fleet.producers / prefill_s, fleet.consumers * at_once / decode_s)


def fits(fleet: Fleet, arrival: Arrival) -> bool:
    """Whether the engines' memory has room for a request."""
    in_all = fleet.blocks_of(arrival.prompt + arrival.output)
    return fleet.blocks_of(arrival.prompt) <= fleet.producer_blocks and in_all <= fleet.consumer_blocks
