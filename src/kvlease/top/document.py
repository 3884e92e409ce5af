"""One moment of all engines, as `kvlease top --once --json` prints it. Figures bear their metric's name.

A figure is null where nobody tells it: the engine does not answer, or its version does not have it.
"""

import msgspec

from kvlease.admin.answers import ConsumerEntry, LeaseEntry, ProducerEntry

SCHEMA = "kvlease-top-v1"
"""The shape of the document. Fields may be added to it; another meaning gets another name."""

Figures = dict[str, int]
"""Figures by the value of their metric's label."""


def total(figures: Figures | None) -> int | None:
    """Returns the sum of figures; None where nobody tells them."""
    return None if figures is None else sum(figures.values())


class EngineNow(msgspec.Struct, frozen=True, kw_only=True):
    """One engine; of several data-parallel ones behind a URL each stands for itself."""

    url: str
    rank: int = 0
    """The data-parallel rank."""
    answers: bool
    error: str | None = None
    """The reason why it does not answer."""
    since: float | None = None
    """The time at which it stopped to answer, or was first asked in vain (Unix)."""
    admin: bool = False
    """True where the routes under /v1/kvlease have answered: its leases and sessions are in the document."""
    note: str | None = None
    """The reason why they have not."""
    role: str | None = None
    """"producer", "consumer" or "both", by what it holds and has done; null before it has done anything."""
    agent: str | None = None
    """"up" or "dead"."""
    draining: bool | None = None
    engine_id: str | None = None
    incarnation: str | None = None
    version: str | None = None
    """The version of kvlease."""
    model: str | None = None
    uptime_s: float | None = None
    active_leases: int | None = None
    claimed_leases: int | None = None
    held_tokens: int | None = None
    held_blocks: int | None = None
    held_bytes: int | None = None
    lapsed_leases: int | None = None
    lapsed_tokens: int | None = None
    lapsed_blocks: int | None = None
    lapsed_bytes: int | None = None
    unheard_leases: Figures | None = None
    """Leases held for consumers that are "dead" or "silent"; so the next three."""
    unheard_tokens: Figures | None = None
    unheard_blocks: Figures | None = None
    unheard_bytes: Figures | None = None
    sessions: Figures | None = None
    """Sessions with "consumers" and with "producers"."""
    pool_blocks: int | None = None
    kv_cache_usage: float | None = None
    """The part of the KV cache that is in use, from 0 to 1: what requests and leases hold."""
    grants: int | None = None
    """Leases granted since the engine started; the figures below begin there, too."""
    lease_ends: Figures | None = None
    """Ends by cause."""
    fence_checks: Figures | None = None
    """Reads by verdict; "revoked" are late ones, which were refused."""
    lost_leases: int | None = None
    wasted_prefill_tokens: Figures | None = None
    """Tokens that were computed twice, by reason."""


class LeaseNow(LeaseEntry, frozen=True, kw_only=True):
    """A lease, and where it is held."""

    url: str


class ConsumerNow(ConsumerEntry, frozen=True, kw_only=True):
    """A consumer's session at a producer, and where that is."""

    url: str


class ProducerNow(ProducerEntry, frozen=True, kw_only=True):
    """A session with a producer, and whose it is."""

    url: str


class FleetNow(msgspec.Struct, frozen=True, kw_only=True):
    """The document."""

    schema: str = SCHEMA
    at: float
    """The time at which it was made (Unix)."""
    engines: list[EngineNow]
    leases: list[LeaseNow]
    leases_total: int
    """All leases that hold memory at engines whose routes answered; of each URL the document has at most 500 that are
    granted, and 500 that are claimed."""
    consumers: list[ConsumerNow]
    producers: list[ProducerNow]
