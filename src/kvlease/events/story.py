"""The story of one request: its leases, each from its grant to its end, as the lines of all engines tell it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from kvlease.events.endings import Ending, Outcome, outcome_of
from kvlease.events.order import ClockOffset, clock_offset, in_order
from kvlease.events.schema import EventKind, EventLine, Role
from kvlease.events.sentences import sentence

_PHASES = (
    ("from the grant until a request wanted it", EventKind.GRANTED, EventKind.WANTED),
    ("from there to the claim", EventKind.WANTED, EventKind.CLAIMED),
    ("in the decode engine's queue", EventKind.WANTED, EventKind.READ_BEGUN),
    ("reading", EventKind.READ_BEGUN, EventKind.DATA_ARRIVED),
    ("reading the fence", EventKind.DATA_ARRIVED, EventKind.FENCE_CHECKED),
    ("memory held on P", EventKind.GRANTED, EventKind.LAPSED),
)
"""The phases of a hand-off: from the first event of a kind to the last of another."""


class Happening(msgspec.Struct, frozen=True):
    """An event of a story."""

    at: float
    """Unix seconds on the producer's clock."""
    after_s: float
    """Seconds since the first event of the story."""
    engine: str
    role: Role
    event: EventKind
    what: str
    lease: str | None
    line: EventLine
    """The event, as it was written."""


class HandOffPhase(msgspec.Struct, frozen=True):
    """A part of a hand-off, and how long it took."""

    name: str
    seconds: float


class Chapter(msgspec.Struct, frozen=True):
    """The story of one lease; or, without lease, what happened to the request besides."""

    lease: str | None
    happenings: list[Happening]
    phases: list[HandOffPhase]
    ending: Ending
    verdict: str
    advice: str


class RequestStory(msgspec.Struct, frozen=True):
    """All that is known of a request."""

    chapters: list[Chapter]
    clocks: list[ClockOffset]
    producers: list[str]
    """The engines that prefilled it."""
    consumers: list[str]
    """The engines that it was handed to."""
    ending: Ending
    """The ending of the last lease, or of the one that was used."""
    verdict: str
    advice: str


_GOOD = (Ending.USED, Ending.LATE_USED, Ending.LOCAL)


def story_of(lines: Sequence[EventLine]) -> RequestStory:
    """Returns the story that these lines tell, of which there is at least one."""
    producers, consumers = _engines(lines, Role.PRODUCER), _engines(lines, Role.CONSUMER)
    first = producers[0] if producers else None
    clocks = [clock_offset(lines, first, other) for other in consumers if first is not None and other not in producers]
    ordered = in_order(lines, clocks)
    start = ordered[0][0]
    names = {line.incarnation: line.engine for line in lines if line.incarnation is not None}
    happenings = [
        Happening(at, round(at - start, 6), line.engine, line.role, line.event, sentence(line, names), line.lease, line)
        for at, line in ordered
    ]
    leases: list[str | None] = list(dict.fromkeys(each.lease for each in happenings if each.lease is not None))
    chapters = [_chapter(lease, happenings, len(leases) < 2) for lease in leases or [None]]
    told = next((chapter for chapter in reversed(chapters) if chapter.ending in _GOOD), chapters[-1])
    return RequestStory(chapters, clocks, producers, consumers, told.ending, told.verdict, told.advice)


def _engines(lines: Sequence[EventLine], role: Role) -> list[str]:
    return list(dict.fromkeys(line.engine for line in sorted(lines, key=lambda line: line.ts) if line.role is role))


def _chapter(lease: str | None, happenings: Sequence[Happening], alone: bool) -> Chapter:
    """`alone`: there is no other lease, so all that happened is told here."""
    own = [each for each in happenings if alone or each.lease in (None, lease)]
    if not alone:
        # Of sessions and engines, only what happened while the lease was out.
        at = [each.at for each in own if each.lease == lease]
        own = [each for each in own if min(at) <= each.at <= max(at)]
    outcome: Outcome = outcome_of([each.line for each in own])
    return Chapter(lease, own, _phases(own), outcome.ending, outcome.verdict, outcome.advice)


def _phases(own: Sequence[Happening]) -> list[HandOffPhase]:
    found = []
    for name, begin, end in _PHASES:
        first = next((each.at for each in own if each.event is begin), None)
        last = next((each.at for each in reversed(own) if each.event is end), None)
        if first is not None and last is not None and last >= first:
            found.append(HandOffPhase(name, round(last - first, 6)))
    return found


def as_json(story: RequestStory, given: str, skipped: int) -> dict[str, Any]:
    """Returns a story as it is printed by `kvlease explain --json`."""
    return {"request": given, "found": True, "skipped_lines": skipped, **msgspec.to_builtins(story)}
