"""The answers of an engine to an operator: the bodies of the routes under /v1/kvlease, as JSON.

Numbers of 64 bits are hexadecimal digits, since JSON's are exact only up to 2^53. Ages and the like are seconds.
"""

import msgspec


class Holding(msgspec.Struct, frozen=True):
    """Leases, and what they hold. A block that several leases share counts for each of them."""

    leases: int
    tokens: int
    """The tokens of their prompts."""
    blocks: int
    """Their KV cache blocks."""
    bytes: int
    """The memory of those on all workers of the engine together."""


class HeldLeases(Holding, frozen=True):
    """The leases that hold their blocks."""

    claimed: int
    """Those of them that a consumer's session claims."""


class Unheard(msgspec.Struct, frozen=True):
    """The leases that are held for consumers that are not heard any more."""

    dead: Holding
    """The transport has reported the consumer's process dead."""
    silent: Holding
    """The consumer has not renewed for more than two of its intervals."""


class LeaseSettings(msgspec.Struct, frozen=True):
    """The settings of an engine's leases (`kvlease.protocol.LeaseConfig`), in seconds."""

    duration_s: float
    extension_s: float
    renew_interval_s: float
    orphan_grace_s: float
    max_age_s: float
    stall_limit_s: float
    probe_interval_s: float
    fence_slots: int
    """The most leases that can be out at once; 0 until the workers have their fence."""


class SessionCounts(msgspec.Struct, frozen=True):
    """The open sessions of an engine."""

    consumers: int
    """Those in which others renew leases here."""
    producers: int
    """Those in which this engine renews leases elsewhere."""


class EngineHealth(msgspec.Struct, frozen=True):
    """One engine: of several data-parallel ones each answers for itself."""

    rank: int
    """The data-parallel rank."""
    engine_id: str
    incarnation: str
    version: str
    """The version of kvlease."""
    agent: str
    """"up", or "dead" after an unforeseen error in its thread."""
    draining: bool
    uptime_s: float
    settings: LeaseSettings
    held: HeldLeases
    lapsed: Holding
    unheard: Unheard
    pool_blocks: int
    """All blocks of the engine's KV cache; 0 where it has none yet."""
    sessions: SessionCounts


class Health(msgspec.Struct, frozen=True):
    """The answer to `GET health`."""

    engines: list[EngineHealth]


class ClaimingConsumer(msgspec.Struct, frozen=True):
    """A consumer that claims a lease."""

    incarnation: str
    engine_id: str
    """Its engine, by its own word."""


class LeaseEntry(msgspec.Struct, frozen=True):
    """One lease at its producer."""

    rank: int
    token: str
    """Its first 8 hexadecimal digits, or all 16 where they were asked for: who has them may read."""
    request_id: str
    state: str
    """"granted", "claimed" or "lapsed" (`kvlease.protocol.LeaseState`)."""
    age_s: float
    remaining_s: float | None
    """The time until it is over if nobody renews; None for a lapsed one."""
    tokens: int
    blocks: int
    bytes: int
    consumers: list[ClaimingConsumer]
    cause: str | None
    """The cause for which it was over last (`kvlease.protocol.Cause`)."""


class LeasePage(msgspec.Struct, frozen=True):
    """The answer to `GET leases`."""

    leases: list[LeaseEntry]
    total: int
    """The number of leases that were asked for, on all pages."""
    next: str | None
    """The cursor of the next page; None on the last one."""


class ConsumerEntry(msgspec.Struct, frozen=True):
    """A consumer's session at this producer."""

    rank: int
    incarnation: str
    engine_id: str
    state: str
    """"resting", "active" or "dead" (`kvlease.protocol.states.ConsumerState`)."""
    silent_s: float
    """The time since its last message was heard."""
    remaining_s: float
    """The time until its claims are void, or without claims until the session is over, if it stays silent."""
    claims: int
    tokens: int
    blocks: int
    bytes: int


class ProducerEntry(msgspec.Struct, frozen=True):
    """A session of this engine with a producer."""

    rank: int
    incarnation: str
    endpoint: str
    """The producer's side channel, host:port."""
    state: str
    """"seeking", "greeting" or "open" (`kvlease.protocol.states.ProducerState`)."""
    leases: int
    last_ack_s: float | None
    """The time since the last message that it acknowledged was sent; None before the first."""


class Sessions(msgspec.Struct, frozen=True):
    """The answer to `GET sessions`."""

    consumers: list[ConsumerEntry]
    producers: list[ProducerEntry]


class Released(msgspec.Struct, frozen=True):
    """The answer to `POST leases/{token}/release`."""

    released: bool


class Drain(msgspec.Struct, frozen=True):
    """The answer to `POST`, `GET` and `DELETE drain`."""

    draining: bool
    left: int
    """The leases that still hold blocks."""


class ErrorDetail(msgspec.Struct, frozen=True):
    """An error, in the form of the OpenAI API."""

    message: str
    type: str
    code: int


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The answer to a question that is none, or that cannot be answered."""

    error: ErrorDetail
