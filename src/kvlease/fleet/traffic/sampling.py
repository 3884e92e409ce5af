"""A sample of some traffic that is small enough to be played many times, and a fleet to match."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil

from kvlease.fleet.settings import Fleet
from kvlease.fleet.traffic import made, traces
from kvlease.fleet.traffic.arrival import Arrival
from kvlease.fleet.traffic.made import MadeTraffic
from kvlease.fleet.traffic.source import Source, SourceError, capacity, shape

LOOKED_THROUGH = 200_000
"""The number of requests among which the busiest stretch is looked for."""
FEWEST_PRODUCERS = 4
"""The fewest producers to which a fleet is cut."""
FULL = 0.98
"""The share of a fleet's capacity above which waiting says more about the fleet's size than about leases."""


@dataclass(frozen=True, slots=True)
class TrafficSample:
    """Requests from 0 s on, the fleet that they are played on, and how both were taken."""

    arrivals: Sequence[Arrival]
    fleet: Fleet
    part: float
    """The share of the requests, and of the engines, that was taken."""
    begin_s: float
    """The beginning of the stretch in the traffic, in seconds."""
    looked_through: int
    mean_rate: float
    """The requests a second in all that was looked through, before a part was taken."""

    @property
    def window_s(self) -> float:
        """The seconds from the first request to the last."""
        return self.arrivals[-1].at

    @property
    def rate(self) -> float:
        """The requests a second of the whole fleet in this stretch."""
        return shape(self.arrivals).rate / self.part

    @property
    def load(self) -> float:
        """The rate as a share of the engines' capacity."""
        found = shape(self.arrivals)
        return found.rate / capacity(self.fleet, found).least


def take(source: Source, fleet: Fleet, count: int, window_s: float, seed: int) -> TrafficSample:
    """Returns the busiest stretch of `window_s` seconds; if it has more than `count` requests, an even part of them and
    the same part of the engines. Raises `TraceError`, `SourceError`."""
    looked = list(islice(_once(source, seed), LOOKED_THROUGH))
    stretch = _busiest(looked, window_s)
    # Producers are whole, so the part of the requests follows from theirs.
    producers = min(fleet.producers, max(ceil(fleet.producers * count / len(stretch)), FEWEST_PRODUCERS))
    part = producers / fleet.producers
    begin_s = stretch[0].at
    arrivals = [
        Arrival(each.at - begin_s, each.prompt, each.output)
        for number, each in enumerate(stretch)
        if int((number + 1) * part) > int(number * part)
    ]
    if len(arrivals) < 2 or not arrivals[-1].at:
        raise SourceError(f"{len(arrivals)} requests at one moment are too few to plan with: give a longer trace")
    return TrafficSample(
        arrivals,
        replace(fleet, producers=producers, consumers=max(round(fleet.consumers * part), 1)),
        part,
        begin_s,
        looked_through=len(looked),
        mean_rate=shape(looked).rate,
    )


def _once(source: Source, seed: int) -> Iterator[Arrival]:
    if isinstance(source, MadeTraffic):
        return made.arrivals(source, LOOKED_THROUGH, seed)
    return traces.arrivals(replace(source, count=None))


def _busiest(arrivals: Sequence[Arrival], window_s: float) -> Sequence[Arrival]:
    """Returns the requests of the busiest `window_s` seconds; all of them if they last no longer."""
    best, end = range(0), 0
    for begin, first in enumerate(arrivals):
        while end < len(arrivals) and arrivals[end].at <= first.at + window_s:
            end += 1
        best = max(best, range(begin, end), key=len)
        if end == len(arrivals):
            break
    return arrivals[best.start : best.stop]


def describe(sample: TrafficSample) -> str:
    """Returns a few sentences on how the sample was taken."""
    said = (
        f"{len(sample.arrivals):,} requests on {sample.fleet.producers} prefill and {sample.fleet.consumers} decode "
        f"engines. They are the busiest {sample.window_s:,.0f} s of the first {sample.looked_through:,} requests, from "
        f"{sample.begin_s:,.0f} s on: {sample.rate:.3g} a second, where the mean is {sample.mean_rate:.3g}."
    )
    if sample.part < 1.0:
        said += (
            f" To keep runs short, {100 * sample.part:.3g} % of the requests and of the engines were taken: in the "
            f"whole fleet an engine has {1 / sample.part:.3g} times as many peers, and may have as many times more "
            "lease messages."
        )
    if sample.load > FULL:
        said += (
            f" These engines can do about {100 / sample.load:.0f} % of that: queues grow through the sample. If yours "
            "do not, give their speed with --set."
        )
    return said
