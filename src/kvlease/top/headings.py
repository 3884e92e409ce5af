"""The columns of a table: what each shows, means and sorts by, and which of them fit into a width."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from kvlease.console.tables import Cell

T = TypeVar("T")
V = TypeVar("V", bound=float | str | None)

NOTHING = "-"
"""The text of a figure that nobody tells."""
SPACE = 2
"""The space between two columns."""
SPARE = 10
"""The place in the order of leaving out from which on a column is worth less than room for those that can use it."""
ROOM = 32
"""The least of that room, where figures are drawn over time."""


@dataclass(frozen=True, slots=True)
class Heading(Generic[T]):
    """A column."""

    key: str
    label: str
    meaning: str
    cell: Callable[[T, int], Cell]
    """Returns what it shows of a line; the number is its width, for what can be drawn in any."""
    sort: Callable[[T], float | str | None]
    """Returns what it sorts by; None comes last, whichever the order."""
    width: int
    words: bool = False
    """True for a column of words, which begins at the left."""
    drop: int = 0
    """The order in which columns are left out where there is no room: the highest first, and those with 0 never."""
    most: int = 0
    """The greatest width, for a column that takes what room is left; 0 for one that does not."""
    tint: str = ""
    """The colour of cells without a tone."""


def of_value(
    key: str,
    label: str,
    meaning: str,
    cell: Callable[[V], Cell],
    value: Callable[[T], V],
    width: int,
    *,
    words: bool = False,
    drop: int = 0,
    most: int = 0,
) -> Heading[T]:
    """Returns a column that shows the value by which it sorts, in any width the same."""
    return Heading(key, label, meaning, lambda line, _: cell(value(line)), value, width, words, drop, most)


def fitting(headings: Sequence[Heading[T]], width: int, room: int = ROOM) -> list[Heading[T]]:
    """Returns the columns that fit, with their widths. `room`: the least for columns that can use it."""
    kept = list(headings)
    while True:
        out = max(kept, key=lambda heading: heading.drop)
        if not out.drop or _taken(kept) + (room if out.drop >= SPARE else 0) <= width:
            break
        kept.remove(out)
    return _grown(kept, width - _taken(kept))


def _taken(headings: Sequence[Heading[T]]) -> int:
    return sum(heading.width + SPACE for heading in headings)


def _grown(headings: Sequence[Heading[T]], room: int) -> list[Heading[T]]:
    grown = {heading.key: heading.width for heading in headings}
    while room > 0:
        able = [heading for heading in headings if grown[heading.key] < heading.most]
        if not able:
            break
        for heading in able[:room]:
            grown[heading.key] += 1
            room -= 1
    return [replace(heading, width=grown[heading.key]) for heading in headings]


def ordered(lines: Sequence[T], heading: Heading[T], reverse: bool) -> list[T]:
    """Returns the lines in the order of a column; figures begin with the highest, words with the first letter."""
    known = [line for line in lines if heading.sort(line) is not None]
    unknown = [line for line in lines if heading.sort(line) is None]
    # `sort` is one type for each column.
    known.sort(key=lambda line: heading.sort(line), reverse=reverse == heading.words)  # type: ignore[arg-type, return-value]
    return known + unknown


def matching(lines: Sequence[T], headings: Sequence[Heading[T]], text: str) -> list[T]:
    """Returns the lines of which some column shows that text."""
    if not text:
        return list(lines)
    return [line for line in lines if any(text.lower() in heading.cell(line, 99).text.lower() for heading in headings)]
