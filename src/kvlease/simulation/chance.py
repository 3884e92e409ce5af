"""All chance of a simulation: a stream for every purpose, so that taking one part out of a run changes no other.

No stream depends on the clock or the machine: equal names give equal numbers, everywhere.
"""

import random

Stream = random.Random


def stream(*names: object) -> Stream:
    """Returns a fresh stream of numbers, always the same for the same names; one of them is the seed of the run."""
    return random.Random(" ".join(map(str, names)))


class Chance:
    """The streams of a run by purpose, all from one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._streams: dict[str, Stream] = {}

    def of(self, purpose: str) -> Stream:
        """Returns the stream of a purpose, which goes on where it was left."""
        if purpose not in self._streams:
            self._streams[purpose] = stream(self._seed, purpose)
        return self._streams[purpose]
