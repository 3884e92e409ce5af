"""Figures as cells of a table."""

from kvlease.console.numbers import count, size
from kvlease.console.tables import Cell, Tone
from kvlease.top.headings import NOTHING


def number(value: float | None, tone: Tone = "") -> Cell:
    """Returns the cell of a number of things."""
    return Cell(NOTHING) if value is None else Cell(count(value), tone)


def alarm(value: float | None, tone: Tone) -> Cell:
    """Returns the cell of a number that is 0 in good times."""
    return number(value, tone if value else "")


def memory(value: float | None, tone: Tone = "") -> Cell:
    """Returns the cell of a number of bytes."""
    return Cell(NOTHING) if value is None else Cell(size(value), tone)


def per_second(value: float | None) -> Cell:
    """Returns the cell of a rate."""
    return Cell(NOTHING) if value is None else Cell(f"{value:.1f}" if value < 100 else count(value))


def share(value: float | None) -> Cell:
    """Returns the cell of a part of 1."""
    return Cell(NOTHING) if value is None else Cell(f"{100 * value:.0f} %", "open" if value >= 0.95 else "")


def lasting(value_s: float | None, tone: Tone = "") -> Cell:
    """Returns the cell of a duration."""
    return Cell(NOTHING) if value_s is None else Cell(duration(value_s), tone)


def duration(value_s: float) -> str:
    """Returns a duration in few characters: "0.3 s", "42 s", "12 min", "3.5 h", "6 d"."""
    if value_s < 9.95:
        return f"{max(value_s, 0.0):.1f} s"
    return long_duration(value_s)


def long_duration(value_s: float) -> str:
    """Returns a duration of which a second more or less does not matter: "3 s", "42 s", "12 min", "3.5 h", "6 d"."""
    if value_s < 120:
        return f"{value_s:.0f} s"
    if value_s < 7200:
        return f"{value_s / 60:.0f} min"
    return f"{value_s / 3600:.1f} h" if value_s < 172_800 else f"{value_s / 86_400:.0f} d"
