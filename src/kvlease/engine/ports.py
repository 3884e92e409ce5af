"""The ports by which the lease's part of an engine reaches the lease agent and the engine."""

from collections.abc import Sequence
from typing import Protocol

from kvlease.protocol import Endpoint, LeaseRef
from kvlease.protocol.effects import Revoke


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

    def abort(self, token: int) -> None:
        """The lease is not handed over after all: nobody will ever claim it."""

    def cleared(self, token: int) -> None:
        """All workers have cleared the lease's word and let go of its blocks."""

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint, siblings: bool = False) -> None:
        """A local request wants this lease kept; `siblings`: others of the same request (n > 1) may want it, too."""

    def untrack(self, holder: str) -> None:
        """A local request has its data, or has ended."""

    def progress(self) -> bool:
        """The engine begins a step. Tells whether there is news for it to take, or the agent has died."""

    def step_ended(self) -> None:
        """The engine has ended a step."""

    def take_revoked(self) -> Sequence[Revoke]:
        """Takes the leases that are over: their words are to be cleared now."""

    def take_lost(self) -> Sequence[str]:
        """Takes the local requests whose lease is lost."""


class HostWorker(Protocol):
    """The part of an engine's worker, in one step, that leases need."""

    def load(self) -> None:
        """Does the engine's own part of the step: hears other engines, and begins the reads that the step is for."""

    def fail(self, request_id: str) -> None:
        """Reports that the load of this request has failed; the engine's own way for that decides."""

    def let_go(self, request_id: str) -> None:
        """Has the blocks of this request reported as sent. A no-op for a prefill that was aborted."""
