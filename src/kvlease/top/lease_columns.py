"""The columns of the table of leases."""

from kvlease.console.tables import Cell, Tone
from kvlease.top.cells import lasting, memory, number
from kvlease.top.headings import NOTHING, Heading, of_value
from kvlease.top.picture import LeaseLine

TONES: dict[str, Tone] = {"claimed": "good", "granted": "open"}
SHORT_S = 5.0
"""The remaining time from which on it is highlighted."""


def _remaining(line: LeaseLine, _: int) -> Cell:
    remaining_s = line.lease.remaining_s
    return lasting(remaining_s, "open" if remaining_s is not None and remaining_s < SHORT_S else "")


LEASES: tuple[Heading[LeaseLine], ...] = (
    of_value(
        "request",
        "request",
        "the request whose prompt it is",
        Cell,
        lambda line: line.lease.request_id,
        16,
        words=True,
        most=48,
    ),
    Heading(
        "state",
        "state",
        "granted: nobody has claimed it yet; claimed: a consumer renews it",
        lambda line, _: Cell(line.lease.state, TONES.get(line.lease.state, "")),
        lambda line: line.lease.state,
        7,
        words=True,
    ),
    Heading(
        "for",
        "for",
        "the consumers that claim it",
        lambda line, _: Cell(line.consumers or NOTHING),
        lambda line: line.consumers,
        15,
        words=True,
        most=32,
    ),
    of_value("age", "age", "since it was granted", lasting, lambda line: line.lease.age_s, 6),
    Heading(
        "remaining", "left", "until it is over, if nobody renews", _remaining, lambda line: line.lease.remaining_s, 6
    ),
    of_value("size", "size", "the memory of its blocks", memory, lambda line: line.lease.bytes, 8),
    of_value("tokens", "tokens", "the tokens of its prompt", number, lambda line: line.lease.tokens, 7, drop=2),
    of_value("blocks", "blocks", "its KV blocks", number, lambda line: line.lease.blocks, 6, drop=4),
    of_value(
        "producer",
        "held by",
        "the engine that holds it",
        Cell,
        lambda line: line.producer,
        15,
        words=True,
        drop=1,
        most=32,
    ),
    of_value(
        "token",
        "token",
        "the first digits of its token, by which it can be released",
        Cell,
        lambda line: line.lease.token,
        8,
        words=True,
        drop=3,
    ),
)
