"""The states of a lease and of both ends of a session, as diagrams and tables (`kvlease.protocol.states`)."""

import enum
from collections.abc import Iterator, Sequence

import kvlease.protocol.states
from docs.made.markdown import code, table
from docs.made.meanings import documented, meaning, meanings
from kvlease.protocol.states import CONSUMER, LEASE, PRODUCER, Cause

Row = tuple[enum.StrEnum, enum.StrEnum, enum.StrEnum, Cause | None]
"""State, event, next state, and the cause where the thing is over by it."""


def lease() -> Iterator[str]:
    """The life of a lease."""
    yield from _machine("LEASE", [(*before, *after) for before, after in LEASE.items()])
    yield ""
    yield from _members("cause", Cause)


def consumer() -> Iterator[str]:
    """The life of a session at its producer: the table `CONSUMER`."""
    yield from _machine("CONSUMER", [(*before, after, None) for before, after in CONSUMER.items()])


def producer() -> Iterator[str]:
    """The life of a session at its consumer: the table `PRODUCER`."""
    yield from _machine("PRODUCER", [(*before, after, None) for before, after in PRODUCER.items()])


def _machine(name: str, rows: Sequence[Row]) -> Iterator[str]:
    state, event, _, _ = rows[0]
    yield meaning(type(state))
    yield ""
    yield from _diagram(rows)
    yield ""
    yield meanings(kvlease.protocol.states)[name]
    yield ""
    yield from _transitions(rows)
    yield ""
    yield from _members("state", type(state))
    yield ""
    yield from _members("event", type(event))


def _diagram(rows: Sequence[Row]) -> Iterator[str]:
    """Mermaid's `stateDiagram-v2`. It begins in the first state of the enumeration, and ends where nothing leads on."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, event, after, _ in rows:
        arrows.setdefault((state, after), []).append(event)
    states = list(type(rows[0][0]))
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {states[0]}"
    for (before, later), events in arrows.items():
        yield f"    {before} --> {later}: {', '.join(events)}"
    left = {before for before, _ in arrows}
    for state in states:
        if state not in left:
            yield f"    {state} --> [*]"
    yield "```"


def _transitions(rows: Sequence[Row]) -> Iterator[str]:
    head = ("state", "event", "next state", "cause")
    width = len(head) if any(cause for *_, cause in rows) else len(head) - 1
    return table(head[:width], ([code(name or "") for name in row[:width]] for row in rows))


def _members(title: str, members: type[enum.StrEnum]) -> Iterator[str]:
    said = documented(members)
    return table((title, "what it means"), ((code(member.value), said[member.name]) for member in members))
