"""The requests of users, as the simulated engines keep them."""

from dataclasses import dataclass, field
from typing import Any

from kvlease.protocol import Fingerprint


@dataclass(slots=True, eq=False)
class Prefill:
    """A request to compute a prompt for another engine."""

    request_id: str
    user: int
    prompt: Fingerprint
    blocks_needed: int
    steps: int
    """The number of steps that its computation takes."""
    parent: str | None = None
    """The request whose children (n > 1) this and others are: one answer goes out for all of them."""
    done: int = 0
    begun: int = 0
    preemptions: int = 0
    blocks: list[int] = field(default_factory=list)
    token: int | None = None
    """The token of its lease; None where it has none."""


@dataclass(slots=True, eq=False)
class Decode:
    """A request to answer from a prefill. `params` are as vLLM's `kv_transfer_params`."""

    request_id: str
    user: int
    prompt: Fingerprint
    params: dict[str, Any] | None
    truth: int | None
    """The token of the lease on what was computed for it: a router may have given it another's reference."""
    busy_s: float
    siblings: bool = False
    """True where others of the same request (n > 1) read the same lease."""
    aborted: bool = False
    done_at: float = 0.0
    how: str = ""
    """The origin of its answer: read, recomputed (it could not be read), or computed (nothing was offered)."""
