"""The facts that an engine's parts tell whoever watches, beside those of its agent's protocol (`protocol.facts`).

They are made only where somebody watches, in the thread of the scheduler or of the worker.
"""

import enum
from collections.abc import Callable, Mapping

import msgspec

from kvlease.protocol.facts import Fact


class HandOffEnd(enum.StrEnum):
    """The end of a hand-off at its consumer."""

    USED = "used"
    """The prefill was read, verified, and is used."""
    FAILED = "failed"
    """The read failed, or what was read must not be used: the engine's load-failure policy decides."""
    LOCAL = "local"
    """Nothing had to be read: the engine had all of it in its own cache."""
    OVER = "over"
    """The request was over before anything was read: its client left, or it was handed back."""
    RETURNED = "returned"
    """The engine refused the request, and left the lease to another engine, as its router had asked."""


class PrefillOffered(msgspec.Struct, frozen=True, gc=False):
    """A prefill is done, and its lease granted."""

    token: int
    request_id: str
    tokens: int
    """The tokens of its prompt."""
    blocks: int
    term_s: float


class PrefillDeclined(msgspec.Struct, frozen=True, gc=False):
    """A prefill will not be offered."""

    request_id: str
    reason: str
    """`no_slot`, `no_producer`, `no_agent`, or whatever else `kvlease:declined_offers_total` counts."""


class UnfencedRead(msgspec.Struct, frozen=True, gc=False):
    """A stock consumer has read leased blocks, without the fence."""

    token: int
    request_id: str


class ClaimTooLate(msgspec.Struct, frozen=True, gc=False):
    """A lapsed lease was claimed when its blocks had just been given to others."""

    token: int


class ReferenceMissing(msgspec.Struct, frozen=True, gc=False):
    """A request came with a prefill to be read, and without a lease."""

    request_id: str


class ReferenceRefused(msgspec.Struct, frozen=True, gc=False):
    """A request's reference to a prefill is not used."""

    request_id: str
    reason: str
    """`bad_reference`, or `length`, `content` or `media`: what differs from the prompt that was computed."""
    detail: str
    token: int | None = None


class HandOffEnded(msgspec.Struct, frozen=True, gc=False):
    """A leased request needs its producer no more."""

    request_id: str
    token: int | None
    """None for a request that had no usable reference."""
    end: HandOffEnd


class ReadBegun(msgspec.Struct, frozen=True, gc=False):
    """A worker begins to read a leased request's blocks."""

    request_id: str
    token: int


class ReadDenied(msgspec.Struct, frozen=True, gc=False):
    """A worker will not read a leased request's blocks, since it knows no fence for them."""

    request_id: str
    token: int


class DataArrived(msgspec.Struct, frozen=True, gc=False):
    """All that a worker was to read of a leased request is here; its fence is read next."""

    request_id: str
    token: int


class FenceChecked(msgspec.Struct, frozen=True, gc=False):
    """A worker has read the fence of a leased request."""

    request_id: str
    token: int
    verdict: str
    """`intact`, `failed` or `revoked`."""


class RequestTraced(msgspec.Struct, frozen=True, gc=False):
    """A request belongs to a trace; it is told before all else about the request."""

    request_id: str
    headers: Mapping[str, str]
    """The W3C trace context, `traceparent` and `tracestate`."""


EngineFact = (
    PrefillOffered
    | PrefillDeclined
    | UnfencedRead
    | ClaimTooLate
    | ReferenceMissing
    | ReferenceRefused
    | HandOffEnded
    | ReadBegun
    | ReadDenied
    | DataArrived
    | FenceChecked
    | RequestTraced
)
Told = Fact | EngineFact
TellEngine = Callable[[EngineFact], None]
"""The function that hears an engine's facts, in the thread in which they happen: it must be quick, and must not
raise."""
