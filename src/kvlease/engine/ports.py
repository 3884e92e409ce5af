"""The ports by which the lease's part of an engine reaches the lease agent and the engine."""

from collections.abc import Callable, Sequence
from typing import Protocol

from kvlease.protocol import Endpoint, LeaseRef
from kvlease.protocol.effects import LeaseNews


class LeaseDesk(Protocol):
    """The engine's side of its lease agent, by which each tells the other what happened. Nothing here waits.

    Implementations: `kvlease.agent.core.AgentCore`; the explorer's, which delivers what is said when its world does.
    """

    incarnation: int
    """The agent's own incarnation (u64)."""
    died_at: float | None
    """The time on its clock at which the agent died; None while it lives."""

    def grant(self, token: int) -> None:
        """The prefill is done; the lease's term begins. It is said before the token can leave the engine."""

    def extend(self, token: int) -> None:
        """A stock consumer's heartbeat named the lease."""

    def release(self, token: int) -> None:
        """A stock consumer has told all workers that it has read."""

    def abort(self, token: int) -> None:
        """The lease is not handed over after all: nobody will ever claim it."""

    def cleared(self, token: int) -> None:
        """The lease's word is clear in every worker."""

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint, siblings: bool = False) -> None:
        """A local request wants this lease kept; `siblings`: others of the same request (n > 1) may want it, too."""

    def untrack(self, holder: str) -> None:
        """A local request has its data, or has ended."""

    def progress(self) -> bool:
        """The engine begins a step. Tells whether there is news for it to take, or the agent has died."""

    def step_ended(self) -> None:
        """The engine has ended a step."""

    @property
    def has_news(self) -> bool:
        """Tells whether `take_news` would return any."""

    def take_news(self) -> Sequence[LeaseNews]:
        """Takes the leases that are over, and those that live again, in this order."""

    def take_lost(self) -> Sequence[str]:
        """Takes the local requests whose lease is lost."""


class HostWorker(Protocol):
    """The part of an engine's worker, in one step, that leases need."""

    def load(self) -> None:
        """Does the engine's own part of the step: hears other engines, and begins the reads that the step is for."""

    def fail(self, request_id: str) -> None:
        """Reports that the load of this request has failed; the engine's own way for that decides."""


class BlockPool(Protocol):
    """An engine's pool of KV cache blocks, which are numbered. Used by the scheduler's thread alone.

    It gives blocks to whoever computes, and takes them back. It calls `on_reuse` with a block that was given back to be
    reused last, before it gives that block to anybody (S2).

    Implementations: the pool of each kind of engine; `kvlease.testing.pool.CountedPool`.
    """

    @property
    def free(self) -> int:
        """The number of free blocks."""

    def watch(self, on_reuse: Callable[[int], None]) -> None:
        """Has `on_reuse(block)` called, from now on, before a block that may still be read is given to anybody."""

    def hold(self, blocks: Sequence[int]) -> None:
        """Takes a reference to each of these blocks. A free one that nobody was given meanwhile is free no more."""

    def give_back(self, blocks: Sequence[int], last: bool) -> None:
        """Drops a reference to each of these blocks; one without any is free from now on, and keeps its content until
        it is given to somebody. `last`: they may still be read, and are reused after all that are free now."""
