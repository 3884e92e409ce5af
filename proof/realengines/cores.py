"""The processor cores that engines are pinned to."""

import os
from dataclasses import dataclass

from proof.realengines.engine import EngineError

NEEDED = 2


@dataclass(frozen=True)
class Cores:
    """A core for the prefill engine, and another one for the decode engines."""

    producer: int
    decoder: int


def choose_cores() -> Cores:
    """Chooses a core for P and another for D. Raises EngineError where they would have to share one.

    An engine steps without pause while it holds blocks, so figures would show how one starves the other (0010).
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < NEEDED:
        raise EngineError(f"P and D need {NEEDED} processor cores, this process may use {len(allowed)}: give it more")
    return Cores(producer=allowed[0], decoder=allowed[1])
