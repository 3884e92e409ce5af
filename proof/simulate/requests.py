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
    prompt_labels: tuple[int, ...]
    """The content of each of its blocks, as a number: prompts that begin alike have the first ones in common."""
    steps: int
    """The number of steps that its computation takes."""
    parent: str | None = None
    """The request whose children (n > 1) this and others are: one answer goes out for all of them."""
    done: int = 0
    begun: int = 0
    preemptions: int = 0
    blocks: list[int] = field(default_factory=list)
    labels: tuple[int, ...] = ()
    """The contents of its blocks, as its engine computes them now."""
    hits: int = 0
    """The number of blocks at its beginning that others had computed."""
    token: int | None = None
    """The token of its lease; None where it has none."""

    @property
    def own(self) -> list[tuple[int, int]]:
        """The blocks that it computes itself, and the content of each."""
        return list(zip(self.blocks, self.labels, strict=True))[self.hits :]


@dataclass(slots=True, eq=False)
class Decode:
    """A request to answer from a prefill. `params` are as vLLM's `kv_transfer_params`."""

    request_id: str
    user: int
    prompt: Fingerprint
    params: dict[str, Any] | None
    truth: int | None
    """The token of the lease on what was computed for it: a router may have given it another's reference."""
    labels: tuple[int, ...]
    """The contents of the blocks that were computed for it."""
    busy_s: float
    siblings: bool = False
    """True where others of the same request (n > 1) read the same lease."""
    aborted: bool = False
    streams: bool = False
    """True where the observer is to hear of its first token."""
    begins_at: float = 0.0
    """The time of its first token."""
    began: bool = False
    done_at: float = 0.0
    how: str = ""
    """The origin of its answer: read, recomputed (it could not be read), or computed (nothing was offered)."""


@dataclass(frozen=True, slots=True)
class StepWork:
    """The work of a producer's step: what its workers compute."""

    writes: dict[int, int] = field(default_factory=dict)
    """The content that is written, by block."""
    prefills: tuple[tuple[Prefill, int], ...] = ()
    """Requests of which a step is computed, and how often each was preempted until then."""
