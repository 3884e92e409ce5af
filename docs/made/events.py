"""The settings of events, and what a line of them says (`kvlease.events.schema`)."""

from collections.abc import Iterator

from docs.made.markdown import code, number, table
from docs.made.meanings import documented
from kvlease.events.schema import EventKind
from kvlease.events.settings import (
    DEFAULT_MEGABYTES,
    DEFAULT_SAMPLE,
    FOLDER,
    LEAST_MEGABYTES,
    MEGABYTES,
    MOST_MEGABYTES,
    SAMPLE,
    EventSettings,
)


def settings() -> Iterator[str]:
    """Every setting of events."""
    said = documented(EventSettings)
    megabytes = f"{number(LEAST_MEGABYTES)} to {number(MOST_MEGABYTES)}"
    rows = (
        (code(FOLDER), "none: no events", "a directory", said["folder"]),
        (code(SAMPLE), number(DEFAULT_SAMPLE), "0 to 1", said["sample"]),
        (code(MEGABYTES), number(DEFAULT_MEGABYTES), megabytes, said["megabytes"]),
    )
    return table(("key", "default", "allowed", "meaning"), rows)


def kinds() -> Iterator[str]:
    """Every kind of event."""
    said = documented(EventKind)
    return table(("event", "meaning"), ((code(kind), said[kind.name]) for kind in EventKind))
