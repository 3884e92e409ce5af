"""Synthetic requests: they come in bursts, and prompts and outputs have heavy tails, as in published traces.

The distributions are those that were fitted to production traffic:

- Arrivals are burstier than a Poisson process, and the rate itself changes (BurstGPT, arXiv:2401.17644: Gamma gaps with
  parameters that change; ServeGen, arXiv:2505.09999: a few clients that come and go make the bursts). Here the rate
  switches between two levels (a Markov-modulated Poisson process): independent gaps, however uneven, even out within
  milliseconds at the rate of a whole fleet, and what fills queues are bursts that last.
- Prompts have a log-normal body and a Pareto tail, outputs are exponential (ServeGen, there section 3).
- The medians are those of the conversation trace of Azure (Splitwise, arXiv:2311.18677): 1,020 and 129 tokens.

The other numbers, below, are chosen. A recorded trace is the better source (`kvlease.fleet.traffic.traces`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from kvlease.errors import KvLeaseError
from kvlease.fleet.traffic.arrival import Arrival
from kvlease.simulation.chance import Stream, stream


class TrafficError(KvLeaseError, ValueError):
    """Traffic that cannot be made. The message names the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Bursts:
    """The changes of the rate of arrivals: exponential spells of calm and of burst, one after the other."""

    factor: float = 4.0
    """The rate in a burst divided by that in a calm; 1 makes a Poisson process."""
    burst_s: float = 4.0
    """The mean length of a burst, in seconds."""
    calm_s: float = 20.0
    """The mean length of a calm, in seconds."""

    def __post_init__(self) -> None:
        """Raises `TrafficError`."""
        if not 1.0 <= self.factor <= 1000.0:
            raise TrafficError(f"bursts of {self.factor:g} times the calm rate: give a factor from 1 to 1000")
        if not 0.0 < min(self.burst_s, self.calm_s) <= max(self.burst_s, self.calm_s) < math.inf:
            raise TrafficError(
                f"bursts of {self.burst_s:g} s and calms of {self.calm_s:g} s: both must be seconds over 0"
            )

    @property
    def share(self) -> float:
        """The share of the time that is burst."""
        return self.burst_s / (self.burst_s + self.calm_s)

    def rates(self, mean: float) -> tuple[float, float]:
        """Returns the requests a second in a calm and in a burst, such that their long-term mean is `mean`."""
        calm = mean / (1.0 - self.share + self.share * self.factor)
        return calm, calm * self.factor

    @property
    def variation(self) -> float:
        """The coefficient of variation of the gaps between arrivals (1 for a Poisson process), if spells are much
        longer than gaps: gaps are then a mixture of two exponentials, weighted by the arrivals of each level."""
        calm, burst = self.rates(1.0)
        return math.sqrt(2.0 * ((1.0 - self.share) / calm + self.share / burst) - 1.0)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The lengths of prompts in tokens: a log-normal body, and a share with a Pareto tail."""

    median: float = 1020.0
    sigma: float = 1.0
    """The standard deviation of the body's logarithm."""
    tail_share: float = 0.05
    tail_from: float = 4000.0
    """The tokens at which the tail begins."""
    tail_alpha: float = 1.5
    """The exponent of the tail; under 2 its variance has no bound but `most`."""
    most: int = 32_768
    """The longest prompt; longer ones are cut to it, as by a model's context."""

    def __post_init__(self) -> None:
        """Raises `TrafficError`."""
        positive = min(self.median, self.sigma, self.tail_from, self.tail_alpha) > 0.0
        if not positive or not 0.0 <= self.tail_share <= 1.0 or self.most < 1:
            raise TrafficError(f"{self} cannot be drawn: numbers must be over 0, tail_share from 0 to 1")


@dataclass(frozen=True, slots=True)
class Outputs:
    """The lengths of outputs in tokens: exponential, from 1 up."""

    median: float = 129.0
    most: int = 4096
    """The longest output; longer ones are cut to it."""

    def __post_init__(self) -> None:
        """Raises `TrafficError`."""
        if self.median <= 0.0 or self.most < 1:
            raise TrafficError(f"{self} cannot be drawn: numbers must be over 0")


@dataclass(frozen=True, slots=True)
class MadeTraffic:
    """The synthetic traffic of a fleet."""

    rate: float
    """The mean requests a second."""
    bursts: Bursts = field(default_factory=Bursts)
    prompts: Prompts = field(default_factory=Prompts)
    outputs: Outputs = field(default_factory=Outputs)

    def __post_init__(self) -> None:
        """Raises `TrafficError`."""
        if not 0.0 < self.rate <= 1e6:
            raise TrafficError(f"{self.rate:g} requests a second: give a rate over 0 and up to 1000000")


def arrivals(traffic: MadeTraffic, count: int, seed: int) -> Iterator[Arrival]:
    """Yields `count` requests, the same ones for the same seed, in about a microsecond each."""
    for at, prompt, output in zip(
        _times(traffic, stream("times", seed)),
        _prompts(traffic.prompts, stream("prompts", seed)),
        _outputs(traffic.outputs, stream("outputs", seed)),
        strict=False,
    ):
        if count <= 0:
            return
        count -= 1
        yield Arrival(at, prompt, output)


def _times(traffic: MadeTraffic, chance: Stream) -> Iterator[float]:
    """Yields the times of arrivals, in seconds from 0 on. A gap that would cross the end of a spell is drawn anew from
    there, which is exact since exponential gaps have no memory."""
    draw = chance.expovariate
    calm, burst = traffic.bursts.rates(traffic.rate)
    calm_end, burst_end = 1.0 / traffic.bursts.calm_s, 1.0 / traffic.bursts.burst_s
    # The first spell is drawn by the long-term shares, so that runs do not all begin with a calm.
    in_burst = chance.random() < traffic.bursts.share
    at = 0.0
    while True:
        rate = burst if in_burst else calm
        end = at + draw(burst_end if in_burst else calm_end)
        while (at := at + draw(rate)) < end:
            yield at
        at = end
        in_burst = not in_burst


def _prompts(prompts: Prompts, chance: Stream) -> Iterator[int]:
    draw, body, tail, exp = chance.random, chance.gauss, chance.paretovariate, math.exp
    mu, sigma, most = math.log(prompts.median), prompts.sigma, prompts.most
    share, tail_from, alpha = prompts.tail_share, prompts.tail_from, prompts.tail_alpha
    while True:
        length = tail_from * tail(alpha) if draw() < share else exp(body(mu, sigma))
        yield most if length >= most else int(length) or 1


def _outputs(outputs: Outputs, chance: Stream) -> Iterator[int]:
    draw, most = chance.expovariate, outputs.most
    rate = math.log(2.0) / outputs.median
    while True:
        length = draw(rate)
        yield most if length >= most else int(length) + 1
