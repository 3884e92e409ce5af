"""One line of a file of events, `kvlease-events-v1`.

It is close to the schema of vllm 52859: opt-in, sampled by what all engines share, ids only as hashes. It adds the
engine's name, by which an operator knows it.
"""

import enum
from typing import Literal

import msgspec

SCHEMA: Literal["kvlease-events-v1"] = "kvlease-events-v1"


class Role(enum.StrEnum):
    """The part that an engine plays in an event."""

    ENGINE = "engine"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class EventKind(enum.StrEnum):
    """The kinds of events."""

    STARTED = "started"
    """The engine begins to write."""
    STOPPED = "stopped"
    """It ends as it should; a killed one writes no such line."""
    DROPPED = "dropped"
    """Events are missing (`count`): there were too many at once, or they could not be written."""
    GRANTED = "granted"
    """A prefill is done, and its lease begins."""
    DECLINED = "declined"
    """A prefill is not offered (`reason`)."""
    CLAIMED = "claimed"
    """A consumer's session (`consumer`) begins to hold the lease, `age_s` after its grant."""
    CLAIM_TOO_LATE = "claim_too_late"
    """A lapsed lease was claimed when its blocks had just been given to others."""
    UNFENCED_READ = "unfenced_read"
    """A stock consumer has read the blocks."""
    LAPSED = "lapsed"
    """The lease is over (`cause`): its blocks are free for others."""
    ENDED = "ended"
    """Its word is clear: it can be read no more."""
    CONSUMER_OPENED = "consumer_opened"
    """A consumer's session begins, or begins anew."""
    CONSUMER_DEAD = "consumer_dead"
    """The transport says that the consumer's process is dead."""
    CONSUMER_SILENT = "consumer_silent"
    """A consumer has not renewed in time: its claims are void."""
    CONSUMER_CLOSED = "consumer_closed"
    """A consumer's session is over."""
    WANTED = "wanted"
    """A request wants the lease."""
    HELD = "held"
    """The producer has said that the lease is held for this consumer."""
    READ_BEGUN = "read_begun"
    """A worker begins to read."""
    READ_DENIED = "read_denied"
    """A worker knows no fence for what it is to read, and does not read."""
    DATA_ARRIVED = "data_arrived"
    """All that a worker was to read is here."""
    FENCE_CHECKED = "fence_checked"
    """A worker has read the fence (`verdict`)."""
    LOST = "lost"
    """The lease is known to be lost: its blocks are not read."""
    LET_GO = "let_go"
    """No request wants the lease any more: the producer is told."""
    HAND_OFF_ENDED = "hand_off_ended"
    """The request needs its producer no more (`end`)."""
    REFUSED = "refused"
    """The request's reference is not used (`reason`)."""
    UNLEASED = "unleased"
    """A request came with a prefill to read, and without `kv_lease`."""
    PRODUCER_CHANGED = "producer_changed"
    """A session with a producer has come to another state (`state`)."""


class EventLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event. Fields that do not belong to its kind are left out."""

    schema: Literal["kvlease-events-v1"]
    ts: float
    """Unix seconds, by the clock of the engine's host."""
    engine: str
    role: Role
    event: EventKind
    rank: int = 0
    """The data-parallel rank."""
    worker: int | None = None
    """The tensor-parallel rank, of an event in a worker."""
    incarnation: str | None = None
    """The engine's own incarnation; a worker does not know it."""
    lease: str | None = None
    """The hash of the lease's token (`names.lease_hash`)."""
    request: str | None = None
    """The hash of the request's id (`names.request_hash`)."""
    tokens: int | None = None
    blocks: int | None = None
    term_s: float | None = None
    age_s: float | None = None
    """The time since the grant."""
    claimed_s: float | None = None
    """The time since the first claim."""
    first: bool | None = None
    revived: bool | None = None
    consumer: str | None = None
    """A consumer's incarnation."""
    peer: str | None = None
    """A consumer's engine by its own word, or a producer's side channel."""
    producer: str | None = None
    """A producer's incarnation."""
    claims: int | None = None
    state: str | None = None
    cause: str | None = None
    reason: str | None = None
    detail: str | None = None
    verdict: str | None = None
    end: str | None = None
    count: int | None = None
    version: str | None = None
