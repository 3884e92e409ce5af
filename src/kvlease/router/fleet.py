"""The engines that the router knows: what they say of themselves, what they were sent, and which to ask next.

Pure: every call takes `now` (monotonic seconds), and chance is passed in. Discovery says who joins and leaves, the
polls what an engine reports; a routed request says what it sends and what became of it.
"""

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random

from kvlease.router.failures import EngineFailure


class EngineRole(enum.StrEnum):
    """The half of the work that an engine does."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """An engine's word on itself, from its `/health` and `/metrics`; sums, where it has several data-parallel ones."""

    healthy: bool = True
    """It has answered, and its health is good. A poll without an answer is a report too: `healthy=False`."""
    running: int = 0
    """The requests that it runs (`vllm:num_requests_running`)."""
    waiting: int = 0
    """The requests in its queue (`vllm:num_requests_waiting`)."""
    kv_usage: float = 0.0
    """The share of its KV cache that is in use, from 0 to 1 (`vllm:kv_cache_usage_perc`)."""
    draining: bool = False
    """It finishes what it has, and takes nothing new."""
    leased: bool | None = None
    """True for kvlease's connector, False for stock's; None where that cannot be seen."""
    grace_s: float | None = None
    """The grace of a lease whose reader died (`kv_lease_orphan_grace`), where it says so."""


class EngineFleet:
    """All engines that the router knows."""

    def join(self, now: float, url: str, role: EngineRole, leased: bool | None = None) -> None:
        """Begins to use an engine; does nothing for one that is known. `leased`: what is known of it beforehand."""

    def leave(self, now: float, url: str) -> None:
        """Sends an engine nothing more. What is under way there goes on."""

    def report(self, now: float, url: str, report: EngineReport) -> bool:
        """Takes an engine's word on itself. Returns True where it is found dead by that, having been alive before: the
        driver ends its calls that have had no token yet, as `CUT`."""
        return False

    def begun(self, now: float, url: str) -> bool:
        """Notes a call to an engine. Returns True where it is the trial of its breaker, for `ended`. `RoutedRequest`
        calls it, the driver never."""
        return False

    def ended(self, now: float, url: str, failure: EngineFailure | None, trial: bool) -> None:
        """Notes the end of a call, and how it failed; None for an answer. `RoutedRequest` calls it."""

    def choose_decode(
        self,
        now: float,
        chance: Random,
        *,
        excluding: Collection[str] = (),
        reluctantly: Collection[str] = (),
        fenced: bool = False,
    ) -> str | None:
        """Returns the decode engine with the least load; None where there is none.

        `excluding`: not these. `reluctantly`: these only where there is no other. `fenced`: only those that are known
        to have kvlease, for a reference that another engine may have seen.
        """
        return None

    def choose_prefill(
        self,
        now: float,
        chance: Random,
        keys: Sequence[bytes] = (),
        *,
        excluding: Collection[str] = (),
        reluctantly: Collection[str] = (),
    ) -> str | None:
        """Returns the prefill engine that has likely seen a prompt with this beginning (`affinity.keys_of`), unless it
        has much more to do than the others; None where there is none."""
        return None

    def living(self, now: float, role: EngineRole, chance: Random) -> tuple[str, ...]:
        """Returns the engines of a role that are believed alive, the least loaded first."""
        return ()
