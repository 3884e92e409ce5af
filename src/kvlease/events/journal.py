"""The journal: files of lines, rotated, of one part of an engine.

Where a line cannot be written, on a full disk for example, it is lost, and the engine goes on; the next lines that can
be written say how many are missing.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path

import msgspec

from kvlease.events.lines import LineMaker, Writer
from kvlease.events.recorder import Heard
from kvlease.events.schema import EventLine
from kvlease.events.settings import EventSettings, check_folder
from kvlease.logs import bounded_logger

bounded = bounded_logger(__name__)

FILES = 4
"""The files that a journal has at most: when the newest is full, the oldest goes."""
PARTS = 2
"""The parts of an engine that may share one process, and its megabytes: the scheduler and a worker."""
BATCH = 256
"""The most lines that are written at once: a file is longer than its bound by less than that."""
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")


class Journal:
    """Writes facts as lines (`kvlease.events.recorder.Sink`).

    Attributes: `path`: the newest file. `lost`: lines that could not be written since the start.
    """

    def __init__(self, settings: EventSettings, writer: Writer, clock: Callable[[], float] = time.time) -> None:
        """Makes the directory, if need be. Raises `ConfigError` where no file can be written in it."""
        check_folder(settings.folder)
        self.lost = 0
        self._missing = 0
        """Events that are not in the files, which these do not say yet."""
        self._lines = LineMaker(writer, settings.sample)
        self._encode = msgspec.json.Encoder().encode
        self._clock = clock
        part = "" if writer.worker is None else f"-worker{writer.worker}"
        name = f"events-{_UNFIT.sub('_', writer.engine)[:100]}{part}-{os.getpid()}.jsonl"
        self.path = settings.folder / name
        self._file = _Files(self.path, int(settings.megabytes * 1e6 / PARTS / FILES))
        self._write([self._lines.started(clock())])

    def take(self, heard: Sequence[Heard], dropped: int) -> None:
        self._missing += dropped
        lines = list(self._lines.lines(heard))
        for start in range(0, max(1, len(lines)), BATCH):
            self._write(lines[start : start + BATCH])

    def _write(self, lines: Sequence[EventLine]) -> None:
        missing = [self._lines.dropped(self._clock(), self._missing)] if self._missing else []
        if not (written := [*missing, *lines]):
            return
        error = self._file.write(b"\n".join(map(self._encode, written)).decode())
        if error is None:
            self._missing = 0
        else:
            self.lost += len(lines)
            self._missing += len(lines)
            bounded.warning(
                "kvlease: events cannot be written to %s (%s); %d lines are lost so far", self.path, error, self.lost
            )

    def close(self) -> None:
        self._write([self._lines.stopped(self._clock())])
        self._file.close()


class _Files(RotatingFileHandler):
    """The standard library's rotated files, that say what went wrong and leave nothing behind of what they could not
    write."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        super().__init__(path, maxBytes=most_bytes, backupCount=FILES - 1, encoding="utf-8", delay=True)
        self._error: BaseException | None = None

    def write(self, text: str) -> BaseException | None:
        """Writes lines. Returns the error, if there is one: then some or all of them are lost."""
        after_error, self._error = self._error, None
        # A line that was cut off is not to spoil the next one.
        self.handle(logging.makeLogRecord({"msg": "\n" + text if after_error else text}))
        return self._error

    def shouldRollover(self, record: logging.LogRecord) -> int:
        if self.stream is not None and not Path(self.baseFilename).exists():
            # Somebody has deleted it: nobody can read what is written there.
            self._forget_stream()
        return super().shouldRollover(record)

    def handleError(self, record: logging.LogRecord) -> None:
        del record
        self._error = sys.exc_info()[1]
        # What is in the buffers would be tried again and again, and they would grow.
        self._forget_stream()

    def _forget_stream(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError:
                return
