"""The slope of a figure over time, with its standard error."""

import math
import statistics
from collections.abc import Sequence

from proof.load.outcome import Growth

_BLOCKS = 24
"""The number of blocks whose means are taken: neighbouring samples are alike, so each alone flatters the error."""
_WARM_UP = 0.2
"""The part of a run that is left out: pools and caches fill then."""


def growth_of(samples: Sequence[tuple[float, float]]) -> Growth | None:
    """Returns the growth of samples (seconds, KiB), after the warm-up. None: there are too few."""
    if not samples:
        return None
    first, last = samples[0][0], samples[-1][0]
    begun = first + (last - first) * _WARM_UP
    kept = [sample for sample in samples if sample[0] >= begun]
    size = max(1, len(kept) // _BLOCKS)
    blocks = [kept[at : at + size] for at in range(0, len(kept) - size + 1, size)]
    if len(blocks) < 3:
        return None
    minutes = [statistics.fmean(at for at, _ in block) / 60 for block in blocks]
    memory = [statistics.fmean(kib for _, kib in block) for block in blocks]
    line = statistics.linear_regression(minutes, memory)
    residual = sum((y - line.slope * x - line.intercept) ** 2 for x, y in zip(minutes, memory, strict=True))
    spread = sum((x - statistics.fmean(minutes)) ** 2 for x in minutes)
    return Growth(line.slope, math.sqrt(residual / (len(blocks) - 2) / spread))
