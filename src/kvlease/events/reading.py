"""Lines from files of events: also rotated ones, compressed ones, and those that are being written."""

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from kvlease.errors import KvLeaseError
from kvlease.events.schema import EventKind, EventLine

PATTERN = "events-*.jsonl*"
"""The names of the files in a directory that are read."""
MOST_BYTES = 65_536
"""The longest line that is read."""


class NoEvents(KvLeaseError, ValueError):
    """A place in which there are no events to read."""


@dataclass(slots=True)
class Survey:
    """The account of all that was read, for whoever does not find what they look for."""

    files: int = 0
    lines: int = 0
    skipped: int = 0
    """Lines that are not events: cut off, or somebody else's."""
    unread: list[str] = field(default_factory=list)
    """Files that could not be read to their end, and why."""
    dropped: int = 0
    """Events that engines say are missing."""
    engines: set[str] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)
    first: float | None = None
    last: float | None = None

    def note(self, line: EventLine) -> None:
        """Takes a line into account."""
        self.lines += 1
        self.engines.add(line.engine)
        if line.request is not None:
            self.requests.add(line.request)
        if line.event is EventKind.DROPPED:
            self.dropped += line.count or 0
        self.first = line.ts if self.first is None else min(self.first, line.ts)
        self.last = line.ts if self.last is None else max(self.last, line.ts)


def files_in(places: Iterable[Path]) -> list[Path]:
    """Returns the files of events in these directories and files. Raises `NoEvents` for a place that has none."""
    found: dict[Path, None] = {}
    for place in places:
        if place.is_dir():
            inside = sorted(path for path in place.rglob(PATTERN) if path.is_file())
            if not inside:
                raise NoEvents(f"{place} has no file named {PATTERN}; is it the kv_lease_events of an engine?")
            found |= dict.fromkeys(inside)
        elif place.is_file():
            found[place] = None
        else:
            raise NoEvents(f"{place} is neither a file nor a directory; name those that kv_lease_events wrote")
    return list(found)


def lines_of(path: Path, survey: Survey, wanted: Iterable[str] = ()) -> Iterator[EventLine]:
    """Yields a file's events. With `wanted`, only lines in which one of these texts stands are looked at."""
    marks = [text.encode() for text in wanted]
    decode = msgspec.json.Decoder(EventLine).decode
    try:
        with _opened(path) as file:
            while raw := file.readline(MOST_BYTES):
                if not raw.strip() or (marks and not any(mark in raw for mark in marks)):
                    continue
                try:
                    line = decode(raw)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    survey.skipped += 1
                else:
                    survey.note(line)
                    yield line
    except (OSError, EOFError, zlib.error) as e:
        survey.unread.append(f"{path}: {e}")


def _opened(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.open(path))
    return path.open("rb")
