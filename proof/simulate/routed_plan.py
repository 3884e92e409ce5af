"""The part of a plan that kvlease's router has: its settings, engines that are stock, and how engines refuse."""

from collections.abc import Sequence
from dataclasses import dataclass

from kvlease.routing.policy import RetryPolicy, TimeLimits
from kvlease.simulation.chance import Stream
from proof.simulate.kinds import FaultKind, PlannedFault

STOCK = 0.1
"""The share of engines that a router takes for stock vLLM."""


@dataclass(frozen=True, slots=True)
class RouterPlan:
    """The router of a run. It has all engines of the plan."""

    policy: RetryPolicy
    poll_s: float = 1.0
    """The time from one look at an engine's health to the next."""
    stock: frozenset[str] = frozenset()
    """The engines that run stock vLLM: such a P's offers have no lease, and such a D reads without a fence."""
    returns: bool = True
    """True where it asks a D that refuses a request to leave its lease to another one (`kv_lease_on_reject`)."""
    shows_drain: bool = True
    """True where an engine's health says that it drains."""


def draw_router(draw: Stream, producers: Sequence[str], consumers: Sequence[str]) -> RouterPlan:
    """Draws a router's settings; a small budget is rare with all defaults, and is what ends requests."""
    limits = TimeLimits(
        connect_s=draw.choice((0.2, 1.0)),
        prefill_s=draw.choice((2.0, 10.0, 30.0)),
        first_token_s=draw.choice((1.0, 5.0, 30.0)),
        between_tokens_s=draw.choice((1.0, 5.0)),
        whole_answer_s=draw.choice((5.0, 60.0)),
        release_s=draw.choice((0.1, 0.5)),
    )
    small = draw.random() < 0.3
    policy = RetryPolicy(
        decode_attempts=draw.choice((2, 4, 4, 4)),
        whole_prompt_on_decoder=draw.random() < 0.8,
        continue_streams=draw.random() < 0.5,
        retry_reserve=draw.randint(0, 3) if small else 500,
        retry_ratio=0.0 if small else 0.2,
        retry_floor_per_s=0.0 if small else 10.0,
        limits=limits,
    )
    stock = frozenset(name for name in dict.fromkeys((*producers, *consumers)) if draw.random() < STOCK)
    return RouterPlan(policy, draw.choice((0.2, 1.0, 3.0)), stock, shows_drain=draw.random() < 0.7)


def draw_refusals(draw: Stream, engines: Sequence[str], faults_s: float) -> list[PlannedFault]:
    """Draws the times at which engines refuse what a router sends them."""
    if draw.random() < 0.4:
        return []
    kinds = (FaultKind.BUSY, FaultKind.ERROR, FaultKind.DRAIN)
    return [
        PlannedFault(
            draw.choice(kinds),
            draw.uniform(0.0, faults_s),
            draw.uniform(0.1, 6.0),
            draw.choice(engines),
            "",
            float(draw.random() < 0.5),
        )
        for _ in range(draw.randint(1, 5))
    ]
