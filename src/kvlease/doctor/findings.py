"""Checks, and what they find: each names what it is for, why it matters, and what to change."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from kvlease.console.exits import Exit

Subject = TypeVar("Subject")


class Severity(StrEnum):
    """The weight of a finding."""

    ERROR = "error"
    """Something does not start, does not work, or is not guaranteed."""
    WARNING = "warning"
    """It works, and costs something, or will at the next crash, stop or upgrade."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """One thing that a check found."""

    found: str
    """The name and the value of it."""
    change: str
    """The setting or the command that mends it."""
    place: str = ""
    """The place of it, where that is not the one that was looked at."""


class Finding(msgspec.Struct, frozen=True):
    """A symptom and what its check says about it."""

    id: str
    severity: Severity
    place: str
    """The machine, configuration or URL that it was found at."""
    found: str
    why: str
    change: str


@dataclass(frozen=True, slots=True)
class Check(Generic[Subject]):
    """A check on one kind of subject, and what a page says about it."""

    id: str
    severity: Severity
    finds: str
    """The thing that it finds, as a table has it."""
    why: str
    """The reason why that matters, in one sentence."""
    look: Callable[[Subject], Iterable[Symptom]]

    def examine(self, subject: Subject, place: str) -> Iterator[Finding]:
        """Yields what it finds in the subject."""
        for symptom in self.look(subject):
            yield Finding(self.id, self.severity, symptom.place or place, symptom.found, self.why, symptom.change)


Look = Callable[[Subject], Iterable[Symptom]]


def error(id: str, finds: str, why: str) -> Callable[[Look[Subject]], Check[Subject]]:
    """Makes a check of a function that looks at a subject; what it finds is an error."""
    return lambda look: Check(id, Severity.ERROR, finds, why, look)


def warning(id: str, finds: str, why: str) -> Callable[[Look[Subject]], Check[Subject]]:
    """Makes a check of a function that looks at a subject; what it finds is a warning."""
    return lambda look: Check(id, Severity.WARNING, finds, why, look)


def examine(checks: Iterable[Check[Subject]], subject: Subject, place: str) -> list[Finding]:
    """Returns what all these checks find in the subject."""
    return [finding for check in checks for finding in check.examine(subject, place)]


def exit_status(findings: Iterable[Finding]) -> Exit:
    """Returns the exit status for scripts: 0 nothing, 1 warnings, 2 errors."""
    worst = {finding.severity for finding in findings}
    if Severity.ERROR in worst:
        # The number of bad arguments: it is what was given that does not work.
        return Exit.BAD_ARGUMENTS
    return Exit.FOUND if worst else Exit.OK
