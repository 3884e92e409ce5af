"""Chance of a run: a stream for every purpose, so that what is taken away from a run leaves the rest alone."""

import random


class Chance:
    """Streams of numbers by purpose, all from one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._streams: dict[str, random.Random] = {}

    def of(self, purpose: str) -> random.Random:
        """Always the same stream for the same purpose."""
        if purpose not in self._streams:
            self._streams[purpose] = random.Random(f"{self._seed} {purpose}")
        return self._streams[purpose]
