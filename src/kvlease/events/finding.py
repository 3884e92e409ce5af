"""The lines about one request, of all engines that had to do with it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvlease.events.names import hashes_of, near
from kvlease.events.reading import Survey, lines_of
from kvlease.events.schema import EventKind, EventLine

_OF_CONSUMERS = (EventKind.CONSUMER_DEAD, EventKind.CONSUMER_SILENT, EventKind.CONSUMER_CLOSED)
_OF_ENGINES = (EventKind.STARTED, EventKind.STOPPED)
_AFTER_S = 1.0
"""The time by which a session's change may follow the last line about a lease and still belong to it."""


@dataclass(frozen=True, slots=True)
class FoundLines:
    """All that files say about a request."""

    lines: Sequence[EventLine]
    survey: Survey
    near: Sequence[str] = ()
    """Ids like the one that was looked for, of which there are events."""


def find(paths: Sequence[Path], given: str) -> FoundLines:
    """Reads files twice: first for the request's leases, and then for all that happened to those."""
    survey = Survey(files=len(paths))
    hashes = hashes_of(given)
    leases: set[str] = set()
    found = False
    for path in paths:
        for line in lines_of(path, survey):
            if line.request in hashes or line.lease in hashes:
                found = True
                if line.lease is not None:
                    leases.add(line.lease)
    if not found:
        return FoundLines([], survey, [other for other in _near(given) if hashes_of(other) & survey.requests])
    return FoundLines(_all_about(paths, hashes, leases), survey)


def _near(given: str) -> list[str]:
    return list(dict.fromkeys(near(given)))


def _all_about(paths: Sequence[Path], hashes: Collection[str], leases: Collection[str]) -> list[EventLine]:
    again = Survey()
    marks = [*hashes, *leases, *(f'"{kind}"' for kind in (*_OF_CONSUMERS, *_OF_ENGINES, EventKind.PRODUCER_CHANGED))]
    own: list[EventLine] = []
    others: list[EventLine] = []
    for path in paths:
        for line in lines_of(path, again, marks):
            (own if line.request in hashes or line.lease in leases else others).append(line)
    return own + [line for line in others if _belongs(line, own)]


def _belongs(line: EventLine, own: Sequence[EventLine]) -> bool:
    """Tells whether a line about a session or an engine belongs to the story of these."""
    of_engine = [each.ts for each in own if each.engine == line.engine]
    if not of_engine or not min(of_engine) < line.ts <= max(of_engine) + _AFTER_S:
        return line.event is EventKind.STARTED and _began_anew(line, own)
    if line.event in _OF_CONSUMERS:
        return line.consumer in {each.consumer for each in own if each.event is EventKind.CLAIMED}
    if line.event is EventKind.PRODUCER_CHANGED:
        return line.producer in {each.producer for each in own if each.event is EventKind.WANTED}
    return line.event in _OF_ENGINES


def _began_anew(line: EventLine, own: Sequence[EventLine]) -> bool:
    """Tells whether an engine of these lines starts anew while the story still goes on elsewhere."""
    here = [each.ts for each in own if each.engine == line.engine]
    return bool(here) and max(here) < line.ts <= max(each.ts for each in own)
