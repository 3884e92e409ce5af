"""The columns of the table of sessions."""

from kvlease.console.tables import Cell, Tone
from kvlease.top.cells import lasting, memory, number
from kvlease.top.document import ConsumerNow
from kvlease.top.headings import NOTHING, Heading, of_value
from kvlease.top.picture import SessionLine

TONES: dict[str, Tone] = {"active": "good", "open": "good", "dead": "bad", "seeking": "open", "greeting": "open"}
ACTS = {"consumer": "lends", "producer": "reads"}


def _silent_s(line: SessionLine) -> float | None:
    return line.entry.silent_s if isinstance(line.entry, ConsumerNow) else line.entry.last_ack_s


def _remaining_s(line: SessionLine) -> float | None:
    return line.entry.remaining_s if isinstance(line.entry, ConsumerNow) else None


def _leases(line: SessionLine) -> int:
    return line.entry.claims if isinstance(line.entry, ConsumerNow) else line.entry.leases


def _bytes(line: SessionLine) -> int | None:
    return line.entry.bytes if isinstance(line.entry, ConsumerNow) else None


def _tokens(line: SessionLine) -> int | None:
    return line.entry.tokens if isinstance(line.entry, ConsumerNow) else None


SESSIONS: tuple[Heading[SessionLine], ...] = (
    of_value(
        "engine", "engine", "the engine that tells of it", Cell, lambda line: line.engine, 15, words=True, most=32
    ),
    Heading(
        "way",
        "",
        "lends to the other engine, or reads from it",
        lambda line, _: Cell(ACTS[line.peer_is]),
        lambda line: line.peer_is,
        5,
        words=True,
        drop=2,
    ),
    Heading(
        "peer",
        "other engine",
        "the engine at the other end: by its name, or the endpoint of its side channel",
        lambda line, _: Cell(line.peer or NOTHING),
        lambda line: line.peer,
        15,
        words=True,
        most=40,
    ),
    Heading(
        "state",
        "state",
        "active: it claims leases; resting: it claims none; dead. With a producer: seeking, greeting, open",
        lambda line, _: Cell(line.entry.state, TONES.get(line.entry.state, "")),
        lambda line: line.entry.state,
        8,
        words=True,
    ),
    of_value("silent", "silent", "since the consumer was heard, or the producer acknowledged", lasting, _silent_s, 6),
    of_value("remaining", "left", "until its claims are void, if it stays silent", lasting, _remaining_s, 6, drop=1),
    of_value("leases", "leases", "leases that it claims", number, _leases, 6),
    of_value("size", "size", "the memory of those", memory, _bytes, 8, drop=3),
    of_value("tokens", "tokens", "their tokens", number, _tokens, 7, drop=4),
)
