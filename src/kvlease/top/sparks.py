"""Figures over time as a line of blocks."""

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
GAP = "·"
"""The place of a reading that there was not."""


def spark(values: Sequence[float | None], width: int, most: float | None = None) -> str:
    """Returns the last `width` values, the newest at the right. `most` is the value of a full block, or the highest."""
    shown = values[-width:]
    most = most or max((value for value in shown if value is not None), default=0.0)
    return "".join(_block(value, most) for value in shown).rjust(width)


def _block(value: float | None, most: float) -> str:
    if value is None:
        return GAP
    # 0 and next to nothing look different: the lowest block is for 0 alone.
    step = 0 if value <= 0 or most <= 0 else 1 + int(min(value / most, 1.0) * (len(BLOCKS) - 2))
    return BLOCKS[step]
