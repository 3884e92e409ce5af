"""Checks of what a producer's agent and engine have to agree in, and of what the agent tells."""

import functools
from collections.abc import Collection, Iterable, Mapping

from kvlease.protocol import Cause
from kvlease.protocol.messages import Gone, decode
from proof.explore.views import Leased
from proof.promises.safety import Violation
from proof.promises.standing import Granted


def check_held(held: Granted, leased: Leased) -> None:
    """Check that an engine that has heard all news holds what its lessor holds (L2), and nothing else (L1)."""
    if missing := held.live - leased.held:
        raise Violation("L2", f"the lessor holds {_tokens(missing)}, and the engine does not")
    if not leased.by_order and (kept := leased.held - held.live):
        raise Violation("L1", f"the engine holds {_tokens(kept)}, and the lessor does not")


def check_gone(sent: Iterable[tuple[int, bytes]], ended: Collection[int]) -> None:
    """Check that a producer tells nobody that a lease is gone before it has ended: a late read may still be right."""
    for peer, payload in sent:
        if early := _gone(payload) - set(ended):
            raise Violation("L2", f"{peer:x} is told that {_tokens(early)} is gone, which has not ended")


def check_revival(token: int, causes: Mapping[int, Cause]) -> None:
    """Check that no lease lives again after its maximum age, or after an operator has ended it (R25)."""
    if (cause := causes.get(token)) in (Cause.AGED_OUT, Cause.REVOKED):
        raise Violation("R25", f"{token:016x} is {cause}, and is claimed again")


@functools.cache
def _gone(payload: bytes) -> frozenset[int]:
    message = decode(payload)
    return frozenset(message.tokens) if isinstance(message, Gone) else frozenset()


def _tokens(tokens: Iterable[int]) -> str:
    return ", ".join(f"{token:016x}" for token in sorted(tokens))
