"""The columns of the table of leases."""

from kvlease.console.tables import Cell, Tone
from kvlease.top.cells import lasting, memory, number
from kvlease.top.headings import NOTHING, Heading
from kvlease.top.picture import LeaseLine

TONES: dict[str, Tone] = {"claimed": "good", "granted": "open"}
SHORT_S = 5.0
"""The remaining time from which on it is highlighted."""


def _remaining(line: LeaseLine, _: int) -> Cell:
    remaining_s = line.lease.remaining_s
    return lasting(remaining_s, "open" if remaining_s is not None and remaining_s < SHORT_S else "")


LEASES: tuple[Heading[LeaseLine], ...] = (
    Heading(
        "request",
        "request",
        "the request whose prompt it is",
        lambda line, _: Cell(line.lease.request_id),
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
    Heading(
        "age",
        "age",
        "since it was granted",
        lambda line, _: lasting(line.lease.age_s),
        lambda line: line.lease.age_s,
        6,
    ),
    Heading(
        "remaining",
        "left",
        "until it is over, if nobody renews",
        _remaining,
        lambda line: line.lease.remaining_s,
        6,
    ),
    Heading(
        "size",
        "size",
        "the memory of its blocks",
        lambda line, _: memory(line.lease.bytes),
        lambda line: line.lease.bytes,
        8,
    ),
    Heading(
        "tokens",
        "tokens",
        "the tokens of its prompt",
        lambda line, _: number(line.lease.tokens),
        lambda line: line.lease.tokens,
        7,
        drop=2,
    ),
    Heading(
        "blocks",
        "blocks",
        "its KV blocks",
        lambda line, _: number(line.lease.blocks),
        lambda line: line.lease.blocks,
        6,
        drop=4,
    ),
    Heading(
        "producer",
        "held by",
        "the engine that holds it",
        lambda line, _: Cell(line.producer),
        lambda line: line.producer,
        15,
        words=True,
        drop=1,
        most=32,
    ),
    Heading(
        "token",
        "token",
        "the first digits of its token, by which it can be released",
        lambda line, _: Cell(line.lease.token),
        lambda line: line.lease.token,
        8,
        words=True,
        drop=3,
    ),
)
