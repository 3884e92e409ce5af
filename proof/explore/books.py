"""What the explorer remembers of a world beside its parts: the facts that its promises are judged by."""

from typing import Any

from proof.explore.wire import Clock
from proof.promises.safety import Safety
from proof.promises.standing import Settled, Stated


class Books:
    """`Safety`'s and `Settled`'s. A part like any other: an input is a tuple that begins with the name of a method."""

    def __init__(self) -> None:
        self.clock = Clock(0.0)
        self.safety = Safety()
        self.settled = Settled()

    def note(self, facts: tuple[tuple[Any, ...], ...]) -> None:
        """`facts` name what they tell, `Safety`'s method or `revoked`."""
        for name, *arguments in facts:
            book = self.settled if name == "revoked" else self.safety
            getattr(book, name)(*arguments)

    def look(self, consumer: int, sessions: tuple[Stated, ...]) -> None:
        self.settled.look(consumer, sessions)
