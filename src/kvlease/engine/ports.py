"""What the lease's part of an engine needs of what is around it."""

from collections.abc import Sequence
from typing import Protocol

from kvlease.protocol import Endpoint, LeaseRef
from kvlease.protocol.effects import Revoke


class LeaseDesk(Protocol):
    """The engine's end of its lease agent: word is left here, and taken. Nothing here waits.

    Implementations: `kvlease.agent.core.AgentCore`; the explorer keeps what is said until its world carries it over.
    """

    incarnation: int
    """The agent's own name (u64)."""
    died_at: float | None
    """When the agent died, on its clock; None while it lives."""

    def grant(self, token: int) -> None:
        """The prefill is done; the lease's term begins. Word is left before the token can leave the engine."""

    def extend(self, token: int) -> None:
        """A stock consumer's heartbeat named the lease."""

    def abort(self, token: int) -> None:
        """What was granted is not handed over after all: nobody will ever claim it."""

    def cleared(self, token: int) -> None:
        """All workers have cleared the lease's word and let go of its blocks."""

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint, siblings: bool = False) -> None:
        """A local request wants this lease kept; `siblings`: others of the same request (n > 1) may come for it."""

    def untrack(self, holder: str) -> None:
        """A local request has its data, or ended."""

    def progress(self) -> bool:
        """The engine begins a step. Returns whether there is word for it to take, or the agent has died."""

    def step_ended(self) -> None:
        """The engine has ended a step."""

    def take_revoked(self) -> Sequence[Revoke]:
        """The leases that are over: their words are to be cleared now."""

    def take_lost(self) -> Sequence[str]:
        """The local requests whose lease is lost."""


class HostWorker(Protocol):
    """An engine's worker in one step, as far as leases need it."""

    def load(self) -> None:
        """The engine's own part of the step: hear what others say, begin the reads that the step is for."""

    def fail(self, request_id: str) -> None:
        """The load of this request has failed: it goes down the engine's own way for that."""

    def let_go(self, request_id: str) -> None:
        """The blocks of this request are to be reported as sent. A no-op for a prefill that was aborted."""
