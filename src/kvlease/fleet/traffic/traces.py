"""The requests of a recorded trace. Two formats are known, and told apart by their first line:

- Mooncake's: JSON lines with `timestamp` (milliseconds since the trace began), `input_length`, `output_length` (tokens)
  and `hash_ids` (https://github.com/kvcache-ai/Mooncake, FAST25-release). `hash_ids` say which prefixes prompts share:
  they are not simulated, every prompt is computed whole. Several requests may bear one timestamp.
- Azure's LLM inference traces of 2023 and 2024: CSV with the columns `TIMESTAMP`, `ContextTokens`, `GeneratedTokens`
  (https://github.com/Azure/AzurePublicDataset). Times are `2023-11-16 18:15:46.6805900` in the one and
  `2024-05-10 00:00:00.009930+00:00` in the other; a second without a fraction has none.

A trace is read line by line, so a week of requests needs no memory. Times must not go back. An output of 0 tokens, of
which Azure's traces have some, is played as 1, since the prefill makes the first token in any case.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, TextIO, TypeAlias

import msgspec

from kvlease.errors import KvLeaseError
from kvlease.fleet.traffic.arrival import Arrival

MOST_TOKENS = 100_000_000
MOST_MS = 1e13
"""The greatest timestamp, three centuries: a greater one is in another unit."""
AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_SHOWN = 80
"""The most characters of a line that an error shows."""

Row: TypeAlias = tuple[float, int, int]
"""The seconds from any zero, and prompt and output in tokens."""


class TraceError(KvLeaseError, ValueError):
    """A trace that cannot be read. The message names file, line and value, and what is allowed."""


class _BadLine(Exception):
    """A line that cannot be read. The text says what is wrong with it, and what is allowed."""


class _Mooncake(msgspec.Struct):
    timestamp: Annotated[float, msgspec.Meta(ge=0, le=MOST_MS)]
    input_length: Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)]
    output_length: Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


@dataclass(slots=True)
class Skipped:
    """The count of lines that were left out, where that was asked for."""

    count: int = 0
    first: str = ""
    """The error of the first of them."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace file, with its speed and count."""

    path: Path
    speed: float = 1.0
    """The factor by which times are divided: 10 makes ten times the rate, with bursts a tenth as long."""
    count: int | None = None
    """The number of requests to play: a smaller one cuts the trace, a greater one repeats it. None: all, once."""
    skip_bad_lines: bool = False

    def __post_init__(self) -> None:
        """Raises `TraceError`."""
        if not 0.0 < self.speed <= 1e6:
            raise TraceError(f"a trace cannot be played {self.speed:g} times as fast: give a number over 0 to 1000000")
        if self.count is not None and self.count < 1:
            raise TraceError(f"{self.count} requests cannot be played: give a whole number from 1")


def arrivals(trace: Trace, skipped: Skipped | None = None) -> Iterator[Arrival]:
    """Yields the requests of a trace; the first one comes at 0 s. Raises `TraceError` at the first bad line, unless bad
    lines are to be skipped. `skipped` counts those, in one pass over the file."""
    speed = trace.speed
    endless = islice(_over_and_over(trace, skipped or Skipped()), trace.count)
    for at, prompt, output in endless:
        yield Arrival(at / speed, prompt, output)


def _over_and_over(trace: Trace, skipped: Skipped) -> Iterator[Row]:
    """Yields the rows once, or without end where a count is given. A repetition begins one mean gap after the last
    request."""
    begin = 0.0
    while True:
        number, span = 0, 0.0
        for at, prompt, output in _from_zero(trace, skipped):
            number, span = number + 1, at
            yield begin + at, prompt, output
        if not number:
            raise TraceError(f"{trace.path} has no request in it" + (f": {skipped.first}" if skipped.count else ""))
        if trace.count is None:
            return
        if not span:
            raise TraceError(f"{trace.path} cannot be repeated: all of its {number} requests come at the same time")
        begin += span + span / max(number - 1, 1)
        # Every pass leaves out the same lines, so only the first one counts them.
        skipped = Skipped()


def _from_zero(trace: Trace, skipped: Skipped) -> Iterator[Row]:
    first: float | None = None
    for at, prompt, output in _rows(trace, skipped):
        first = at if first is None else first
        yield at - first, prompt, output or 1


def _rows(trace: Trace, skipped: Skipped) -> Iterator[Row]:
    """Yields the rows of the file, without the bad ones."""
    before = float("-inf")
    try:
        with trace.path.open(encoding="utf-8-sig", newline="") as file:
            parse, first = _format(file, trace.path)
            for number, line in enumerate(file, start=first):
                if line.isspace():
                    continue
                try:
                    row = parse(line)
                    if row[0] < before:
                        raise _BadLine("its time is before that of the line above it: sort the file by time")
                except _BadLine as bad:
                    text = f"{trace.path}, line {number}: {bad}; the line is {_shown(line)}"
                    if not trace.skip_bad_lines:
                        raise TraceError(f"{text} (--skip-bad-lines leaves such lines out, and counts them)") from None
                    skipped.first = skipped.first or text
                    skipped.count += 1
                else:
                    before = row[0]
                    yield row
    except OSError as error:
        raise TraceError(f"{trace.path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TraceError(f"{trace.path} is not text: a trace is JSON lines or CSV, in UTF-8") from None


def _format(file: TextIO, path: Path) -> tuple[Callable[[str], Row], int]:
    """Reads the first line that is not empty. Returns the function that reads the lines from there on, and the number
    of the first of them."""
    number, start, line = 0, 0, ""
    while not line.strip():
        start = file.tell()
        line = file.readline()
        number += 1
        if not line:
            raise TraceError(f"{path} is empty")
    if line.lstrip().startswith("{"):
        file.seek(start)
        return _mooncake, number
    header = [name.strip() for name in line.split(",")]
    if set(AZURE_COLUMNS) <= set(header):
        return _azure(header), number + 1
    raise TraceError(
        f"{path}, line {number}: this is neither a Mooncake trace (JSON lines with timestamp, input_length, "
        f"output_length) nor one of Azure (CSV with the columns {', '.join(AZURE_COLUMNS)}); the line is {_shown(line)}"
    )


_decode = msgspec.json.Decoder(_Mooncake).decode


def _mooncake(line: str) -> Row:
    try:
        row = _decode(line)
    except msgspec.MsgspecError as error:
        raise _BadLine(f"{error}") from None
    return row.timestamp / 1000.0, row.input_length, row.output_length


def _azure(header: list[str]) -> Callable[[str], Row]:
    time, prompt, output = (header.index(name) for name in AZURE_COLUMNS)

    def parse(line: str) -> Row:
        # These files quote nothing, and the csv module would take twice the time for a week of requests.
        fields = line.rstrip("\r\n").split(",")
        if len(fields) != len(header):
            raise _BadLine(f"it has {len(fields)} fields, the header {len(header)}")
        return (
            _seconds(fields[time]),
            _tokens(AZURE_COLUMNS[1], fields[prompt], 1),
            _tokens(AZURE_COLUMNS[2], fields[output], 0),
        )

    return parse


def _seconds(text: str) -> float:
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        example = "2024-05-10 00:00:00.009930+00:00"
        raise _BadLine(f"TIMESTAMP is {text!r}, it must be a date and a time such as {example}") from None
    # Times of 2023 have no zone; any zone without summer time will do, since all lines have the same.
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _tokens(name: str, text: str, least: int) -> int:
    digits = text.strip()
    # The length is checked first, since Python refuses to convert thousands of digits.
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12 and least <= int(digits) <= MOST_TOKENS):
        raise _BadLine(f"{name} is {text!r}, it must be a whole number from {least} to {MOST_TOKENS}")
    return int(digits)


def _shown(line: str) -> str:
    line = line.strip()
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…")
