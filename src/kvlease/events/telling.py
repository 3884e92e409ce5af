"""A story as a page of plain text, 80 columns wide."""

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from kvlease.events.reading import Survey
from kvlease.events.sentences import seconds
from kvlease.events.story import Chapter, RequestStory

WIDTH = 80
_ENGINE = 14
"""The columns of an engine's name."""


def told(story: RequestStory, given: str, survey: Survey) -> Iterator[str]:
    """Yields the lines of the page."""
    yield from _wrapped(f"Request {given}", "")
    yield from _wrapped(_where(story), "  ")
    for number, chapter in enumerate(story.chapters, 1):
        yield ""
        if len(story.chapters) > 1:
            yield f"Lease {number} of {len(story.chapters)} ({chapter.lease})"
            yield ""
        yield from _happenings(chapter)
        if chapter.phases:
            yield ""
            yield from (f"  {phase.name:<42}{seconds(phase.seconds):>10}" for phase in chapter.phases)
        if len(story.chapters) > 1:
            yield from _wrapped(f"so: {chapter.verdict}", "  ")
    yield ""
    yield from _labelled("Verdict", story.verdict)
    yield from _labelled("Do", story.advice)
    notes = list(_notes(story, survey))
    if notes:
        yield ""
        for note in notes:
            yield from _wrapped(note, "")


def _where(story: RequestStory) -> str:
    producers, consumers = ", ".join(story.producers), ", ".join(story.consumers)
    if producers and consumers:
        return f"prefilled on {producers}, handed to {consumers}"
    if producers:
        return f"prefilled on {producers}; no decode engine tells of it"
    return f"handed to {consumers}; no prefill engine tells of it" if consumers else "no engine's part in it is known"


def _happenings(chapter: Chapter) -> Iterator[str]:
    day = None
    for each in chapter.happenings:
        at = datetime.fromtimestamp(each.at, UTC)
        if at.date() != day:
            day = at.date()
            yield f"  {day.isoformat()} (UTC)"
        clock = at.strftime("%H:%M:%S.%f")[:-3]
        front = f"  {clock} {'+' + seconds(each.after_s):>9}  {_fitted(each.engine):<{_ENGINE}} "
        yield from textwrap.wrap(each.what, WIDTH, initial_indent=front, subsequent_indent=" " * len(front))


def _fitted(name: str) -> str:
    """Returns an engine's name in its columns, its end where it is too long: names mostly differ there."""
    return name if len(name) <= _ENGINE else ".." + name[2 - _ENGINE :]


def _labelled(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{label + ':':<9}", subsequent_indent=" " * 9)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _notes(story: RequestStory, survey: Survey) -> Iterator[str]:
    for clock in story.clocks:
        if clock.seconds:
            by = f"{seconds(abs(clock.seconds))} {'ahead of' if clock.seconds > 0 else 'behind'}"
            sure = f", give or take {seconds(clock.margin_s)}" if clock.margin_s < 1e9 else " or more"
            yield f"The clock of {clock.engine} is {by} that of {story.producers[0]}{sure}; times are the latter's."
    yield from read_notes(survey)


def read_notes(survey: Survey) -> Iterator[str]:
    """Yields what is to be known of the files themselves."""
    if survey.skipped:
        yield f"{survey.skipped} lines are not events, or cut off, and were left out."
    if survey.dropped:
        yield f"{survey.dropped} events are missing: there were too many at once, or they could not be written."
    for unread in survey.unread:
        yield f"Not read to its end: {unread}."


def not_found(given: str, near: Sequence[str], survey: Survey) -> Iterator[str]:
    """Yields the lines of the page about a request of which there is no event."""
    yield from _wrapped(f"There is no event of request {given}.", "")
    for other in near:
        yield from _wrapped(f"There are events of {other}: did you mean that?", "  ")
    yield ""
    yield from _wrapped(_read(survey), "")
    yield from _wrapped(
        "Give the id that the client sent as X-Request-Id, or the one in its answer. A router may have sent another "
        "one on; with kv_lease_events_sample below 1 not every request is written; and old files are deleted "
        "(kv_lease_events_mb).",
        "",
    )
    for note in read_notes(survey):
        yield from _wrapped(note, "")


def _read(survey: Survey) -> str:
    if survey.first is None or survey.last is None:
        return f"Read: {survey.files} files, without a single event."
    first, last = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") for at in (survey.first, survey.last))
    return (
        f"Read: {survey.lines} events of {len(survey.requests)} requests in {survey.files} files of "
        f"{', '.join(sorted(survey.engines))}, from {first} to {last} UTC."
    )
