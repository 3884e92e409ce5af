"""The crash in numbers, and what is read out of a run of it. No engine is needed: a simulation can play it, too."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

ENOUGH = 0.95
"""The share of its rate that P has to reach to be back …"""
STAYS_S = 10.0
"""… and the time for which it has to keep it."""


@dataclass(frozen=True)
class CrashScenario:
    """Steady traffic through P and one D, whose queue fills P's KV memory; that D dies, another takes its place.

    `clients` send one request after the other: P computes the prompt, D reads and answers it. D has few seats and not
    much memory, so most of them wait in its queue, with leases on P, until P has no room for one more prompt: from then
    on P computes a prompt whenever D has read one. When D is killed, all clients whose request was there send it again,
    to P and then to the second D, which is idle until then.
    """

    producer_blocks: int = 240
    """P's blocks. One of them is vLLM's null block and holds nothing."""
    block_tokens: int = 32
    decoder_blocks: int = 52
    """Each D's blocks: room for one request more than it has seats for. A D with room to spare reads all that waits for
    it as soon as a seat is free, and P's memory is empty again."""
    seats: int = 2
    """The requests that each D decodes at a time."""
    max_model_len: int = 1024
    """The longest request of all engines, in tokens."""
    clients: int = 20
    prompt_tokens: int = 512
    answer_tokens: int = 24
    settle_s: float = 10.0
    """The time from the first request until the rate is measured."""
    before_s: float = 15.0
    """The time for which the rate before the crash is measured."""
    after_s: float = 60.0
    """The time for which P is watched after the crash."""
    lease_s: float = 30.0
    flat_s: float = 480.0
    """The flat timeout that vLLM had before leases."""

    @property
    def prompt_blocks(self) -> int:
        """The blocks that a prompt takes on P."""
        return -(-self.prompt_tokens // self.block_tokens)

    @property
    def leases_that_fit(self) -> int:
        """The number of prompts for which P has room at the same time."""
        return (self.producer_blocks - 1) // self.prompt_blocks


@dataclass(frozen=True)
class CrashRun:
    """One crash. Times are seconds after the kill; what was before has negative ones."""

    prefills: Sequence[float]
    """The times at which P's answers to prefills came, in order."""
    held: Sequence[tuple[float, int]]
    """Samples of P's KV cache blocks that were not free, as (time, blocks)."""
    before_s: float
    after_s: float
    again: int = 0
    """Requests that got no answer, and were prefilled again."""
    prefill_s: float = 0.0
    """The time that one prefill takes alone, which a simulation has to be told."""
    answer_s: float = 0.0
    """The time that D takes to read and answer as many requests as it has seats, together."""

    @property
    def rate(self) -> float:
        """Prefills per second before the crash."""
        return self._count(-self.before_s, 0.0) / self.before_s

    @property
    def share_after(self) -> float:
        """Prefills in the whole time after the crash, as a share of what the rate before would have given."""
        return self._count(0.0, self.after_s) / (self.rate * self.after_s)

    @property
    def longest_gap_s(self) -> float:
        """The longest time without a prefill after the crash."""
        after = [0.0, *(at for at in self.prefills if 0 < at < self.after_s), self.after_s]
        return max(end - begin for begin, end in pairwise(after))

    def _count(self, begin: float, end: float) -> int:
        return sum(begin <= at < end for at in self.prefills)

    def per_second(self) -> list[tuple[float, int]]:
        """Prefills in each whole second, by its middle."""
        first, last = -int(self.before_s), int(self.after_s)
        return [(second + 0.5, self._count(second, second + 1)) for second in range(first, last)]

    @property
    def back_after_s(self) -> float | None:
        """Seconds until P was back at its rate; None when it was not.

        P is back at a moment when at every later one within `STAYS_S` it has done at least `ENOUGH` of what it would
        have done at its rate since then. It may lack as many prefills as it lacked at times before the crash: one at
        least, since no prefill is done by half, and those of a second at most, so that every longer pause counts.
        """
        before = [at for at in self.prefills if -self.before_s <= at < 0]
        slack = max(1.0, min(self.rate, max(self._falls_short(at, 0.0) for at in before)))
        # Later moments do not count: nobody sees whether P stays there.
        moments = [0.0, *(at for at in self.prefills if 0 < at <= self.after_s - STAYS_S)]
        return next((at for at in moments if self._falls_short(at, at + STAYS_S) <= slack), None)

    @property
    def rate_then(self) -> float:
        """Prefills per second from the moment at which P was back to the end, as a share of the rate before; else 0."""
        back_s = self.back_after_s
        if back_s is None:
            return 0.0
        return self._count(back_s, self.after_s) / (self.rate * (self.after_s - back_s))

    def _falls_short(self, begin: float, end: float) -> float:
        """The most prefills that P lacked to `ENOUGH` of its rate since `begin`, at any moment until `end`."""
        enough = ENOUGH * self.rate
        moments = [at for at in self.prefills if begin < at < end] + [end]
        return max(enough * (at - begin) - done for done, at in enumerate(moments))
