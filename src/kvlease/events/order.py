"""The clocks of several hosts, put in order by what must have come first.

A lease is granted before anybody wants it, wanted before it is claimed, claimed before its consumer hears so, let go of
before it is over as released, and ended before a consumer hears that it is lost. Each of these pairs bounds the
difference of two clocks from one side, as the two ways of an exchange do in NTP (RFC 5905).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from kvlease.events.schema import EventKind, EventLine

_RANKS = {
    EventKind.STARTED: -1,
    EventKind.GRANTED: 0,
    EventKind.WANTED: 1,
    EventKind.CLAIMED: 2,
    EventKind.HELD: 3,
    EventKind.HAND_OFF_ENDED: 5,
    EventKind.LET_GO: 6,
    EventKind.LAPSED: 7,
    EventKind.ENDED: 8,
    EventKind.LOST: 9,
}
"""The order of what happens at the same moment."""
_OTHERS = 4


class ClockOffset(NamedTuple):
    """The difference of an engine's clock from the producer's."""

    engine: str
    seconds: float
    """Seconds by which it is ahead."""
    margin_s: float
    """The seconds by which this may be wrong; infinite where it is bounded from one side alone."""


def clock_offset(lines: Sequence[EventLine], producer: str, consumer: str) -> ClockOffset:
    """Returns by how much the consumer's clock is ahead of the producer's, as far as the lines tell.

    It is 0 where the lines are in order as they stand: then nothing tells of a difference.
    """
    low, high = -math.inf, math.inf
    for lease in {line.lease for line in lines if line.lease is not None}:
        mine = [line for line in lines if line.lease == lease]
        granted = _first(mine, producer, EventKind.GRANTED)
        wanted, held = (_first(mine, consumer, kind) for kind in (EventKind.WANTED, EventKind.HELD))
        ended = _last(mine, producer, EventKind.ENDED)
        lost = _first(mine, consumer, EventKind.LOST)
        let_go, lapsed = _last(mine, consumer, EventKind.LET_GO), _last(mine, producer, EventKind.LAPSED)
        by = None if wanted is None else wanted.incarnation
        claimed = _first([line for line in mine if by in (None, line.consumer)], producer, EventKind.CLAIMED)
        if granted is not None and wanted is not None:
            high = min(high, wanted.ts - granted.ts)
        if claimed is not None and held is not None:
            high = min(high, held.ts - claimed.ts)
        if ended is not None and lost is not None:
            high = min(high, lost.ts - ended.ts)
        if let_go is not None and lapsed is not None and lapsed.cause == "released":
            low = max(low, let_go.ts - lapsed.ts)
        if claimed is not None and wanted is not None:
            low = max(low, wanted.ts - claimed.ts)
    if low <= 0.0 <= high or (math.isinf(low) and math.isinf(high)):
        return ClockOffset(consumer, 0.0, max(high, -low))
    if math.isinf(low) or math.isinf(high):
        return ClockOffset(consumer, high if math.isinf(low) else low, math.inf)
    return ClockOffset(consumer, (low + high) / 2, abs(high - low) / 2)


def _first(lines: Sequence[EventLine], engine: str, kind: EventKind) -> EventLine | None:
    of_kind = [line for line in lines if line.engine == engine and line.event is kind]
    return min(of_kind, key=lambda line: line.ts, default=None)


def _last(lines: Sequence[EventLine], engine: str, kind: EventKind) -> EventLine | None:
    of_kind = [line for line in lines if line.engine == engine and line.event is kind]
    return max(of_kind, key=lambda line: line.ts, default=None)


def in_order(lines: Sequence[EventLine], offsets: Sequence[ClockOffset]) -> list[tuple[float, EventLine]]:
    """Returns lines by time on the producer's clock, each with it."""
    ahead = {offset.engine: offset.seconds for offset in offsets}
    timed = [(line.ts - ahead.get(line.engine, 0.0), line) for line in lines]
    return sorted(timed, key=lambda each: (each[0], _RANKS.get(each[1].event, _OTHERS)))
