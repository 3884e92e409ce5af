"""Columns: those that fit, their order and their filter; and figures as text."""

import pytest

from kvlease.console.tables import Cell
from kvlease.top.cells import duration
from kvlease.top.engine_columns import ENGINES
from kvlease.top.headings import SPACE, Heading, fitting, matching, ordered
from kvlease.top.lease_columns import LEASES
from kvlease.top.session_columns import SESSIONS
from kvlease.top.sparks import spark

Line = tuple[str, float | None]
NAME: Heading[Line] = Heading(
    "name", "name", "", lambda line, _: Cell(line[0]), lambda line: line[0], 4, words=True, most=9
)
COUNT: Heading[Line] = Heading(
    "count", "count", "", lambda line, _: Cell(str(line[1])), lambda line: line[1], 5, drop=2
)
RATE: Heading[Line] = Heading("rate", "rate", "", lambda *_: Cell(""), lambda line: line[1], 5, drop=1)
LINES: list[Line] = [("b", 1.0), ("a", None), ("c", 3.0)]


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (99, {"name": 9, "count": 5, "rate": 5}),
        (20, {"name": 4, "count": 5, "rate": 5}),
        (19, {"name": 9, "rate": 5}),
        (13, {"name": 4, "rate": 5}),
        (12, {"name": 9}),
        (1, {"name": 4}),
    ],
)
def test_what_does_not_fit_is_left_out_and_what_can_grow_takes_the_rest(width: int, columns: dict[str, int]) -> None:
    assert {heading.key: heading.width for heading in fitting([NAME, COUNT, RATE], width)} == columns


@pytest.mark.parametrize("headings", [ENGINES, LEASES, SESSIONS])
def test_what_matters_fits_into_80_columns(headings: tuple[Heading[object], ...]) -> None:
    """A frame and a scroll bar take four of them."""
    for width in (76, 120, 196):
        assert sum(heading.width + SPACE for heading in fitting(headings, width)) <= width
    shown = {heading.key for heading in fitting(headings, 76)}
    always = {"unheard", "late", "held", "state", "history"} if headings is ENGINES else {"state", "remaining"}
    assert always <= shown


def test_figures_begin_with_the_highest_and_words_with_the_first() -> None:
    assert [name for name, _ in ordered(LINES, COUNT, reverse=False)] == ["c", "b", "a"]
    assert [name for name, _ in ordered(LINES, COUNT, reverse=True)] == ["b", "c", "a"]
    assert [name for name, _ in ordered(LINES, NAME, reverse=False)] == ["a", "b", "c"]
    assert [name for name, _ in ordered(LINES, NAME, reverse=True)] == ["c", "b", "a"]


def test_lines_match_by_what_they_show() -> None:
    assert matching(LINES, [NAME, COUNT], "3.0") == [("c", 3.0)]
    assert matching(LINES, [NAME, COUNT], "A") == [("a", None)]
    assert matching(LINES, [NAME, COUNT], "") == LINES


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0, 1, 4, 8], "  ▁▂▅█"),
        ([0, None, 8], "   ▁·█"),
        ([], "      "),
        ([0, 0], "    ▁▁"),
        ([9] * 9, "██████"),
    ],
)
def test_the_newest_figure_is_at_the_right(values: list[float | None], shown: str) -> None:
    assert spark(values, 6) == shown


@pytest.mark.parametrize(
    ("value_s", "text"),
    [
        (-1, "0.0 s"),
        (0.25, "0.2 s"),
        (9.96, "10 s"),
        (119, "119 s"),
        (600, "10 min"),
        (9000, "2.5 h"),
        (400_000, "5 d"),
    ],
)
def test_durations_are_short(value_s: float, text: str) -> None:
    assert duration(value_s) == text
