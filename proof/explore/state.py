"""The whole world at a moment: the numbers of its parts, what is on its way between them, and what lies outside."""

from typing import Any, NamedTuple

from kvlease.protocol import LeaseRef


class Item(NamedTuple):
    """Something on its way. `kind` is `message` (to an incarnation, from another), `card` (an agent's question) or
    `fences` (a worker's question), both from the consumer `to`.

    `held`: it may arrive at any time, or never; others arrive before the tick is over.
    """

    kind: str
    to: int
    sender: int
    payload: bytes
    held: bool = False


class Offer(NamedTuple):
    """A lease that the router knows of, and the consumers that it was handed to."""

    ref: LeaseRef
    blocks: tuple[int, ...]
    handed: tuple[int, ...] = ()


class Outside(NamedTuple):
    """The part of the state that belongs to no agent, engine or book."""

    faults: int
    """Faults that may still happen."""
    asked: int = 0
    """The number of prefills that began."""
    offers: tuple[Offer | None, ...] = ()
    restarts: int = 0
    dead: tuple[int, ...] = ()
    """Consumers that died."""
    unseen: tuple[int, ...] = ()
    """Dead consumers whose death shows to nobody, since their machine vanished."""
    doubted: tuple[int, ...] = ()
    """Consumers about whose death the producer was told, perhaps falsely."""
    frozen: tuple[int, ...] = ()
    """Engines of which nothing runs: consumers by number, the producer as -1."""
    touched: bool = False
    """True once something has happened to the first consumer; until then all are alike (`actions`)."""


class State(NamedTuple):
    """The state of a world: numbers of `World`'s tables, and the time, which is in ticks since the start."""

    tick: int
    outside: int
    flying: int
    books: int
    agent: int
    engine: int
    consumers: tuple[int, ...]
    """The agent and the engine of each consumer in turn; `parts.NOBODY` for a dead one's."""


class Numbering:
    """Numbers for values, and values for numbers."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._values: list[Any] = []

    def number(self, value: Any) -> int:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self._values)
            self._values.append(value)
        return number

    def __getitem__(self, number: int) -> Any:
        return self._values[number]

    def __len__(self) -> int:
        return len(self._values)
