"""The facts that the explorer remembers of a world beside its parts, and by which its promises are judged."""

from typing import Any

from kvlease.testing.clock import ManualClock
from proof.promises.safety import Safety
from proof.promises.standing import Settled, Stated

_SETTLED = frozenset({"lapsed", "has_ended"})


class BooksPart:
    """The books of `Safety` and `Settled`. A part like any other: an input is a method's name and its arguments."""

    def __init__(self) -> None:
        self.clock = ManualClock(0.0)
        self.safety = Safety()
        self.settled = Settled()

    def note(self, facts: tuple[tuple[Any, ...], ...]) -> None:
        """Enter `facts`; each begins with the name of what it tells, a method of `Safety` or `Settled`."""
        for name, *arguments in facts:
            book = self.settled if name in _SETTLED else self.safety
            getattr(book, name)(*arguments)

    def look(self, consumer: int, sessions: tuple[Stated, ...]) -> None:
        self.settled.look(consumer, sessions)
