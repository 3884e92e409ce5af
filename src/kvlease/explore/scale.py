"""The explored world's time. It passes in beats of one second, so that every deadline is a small whole number.

The product's own constants are scaled to it for as long as a world is played (`in_beats`): a beat is the agent's
longest pause, the retry of a message, the renewal interval, the orphan grace and the probe interval; the term and the
extension are two, the maximum age is four. What a beat is in life differs from constant to constant, the order of the
deadlines does not.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from kvlease.protocol import LeaseConfig, lessee, lessor

BEAT_S = 1.0
START_S = 16.0
CONFIG = LeaseConfig(
    duration_s=2.0,
    extension_s=2.0,
    renew_interval_s=1.0,
    orphan_grace_s=1.0,
    max_age_s=4.0,
    # No engine is wedged here: the scheduler's steps of a consumer are not modelled one by one.
    stall_limit_s=1e6,
    probe_interval_s=1.0,
    fence_slots=2,
)
_CONSTANTS = (
    (lessor, "LAG_TOLERANCE_S", BEAT_S),
    (lessor, "SESSION_IDLE_S", 3.0),
    (lessee, "RETRY_S", BEAT_S),
    (lessee, "TRIES", 2),
    (lessee, "MAX_UNANSWERED", 6),
    (lessee, "BACKOFF_MAX_S", 2.0),
    (lessee, "IDLE_S", 1.0),
)


@contextmanager
def in_beats() -> Iterator[None]:
    """The product's constants are those of the explored world."""
    with ExitStack() as scaled:
        for module, name, value in _CONSTANTS:
            scaled.enter_context(patch.object(module, name, value))
        yield


@dataclass(frozen=True, slots=True)
class Bounds:
    """What there is of everything, and so what is explored."""

    beats: int = 4
    """For how long the world is played; what comes after is `settle`'s."""
    faults: int = 1
    """Messages lost, doubled or held back, processes killed, frozen or wrongly reported dead, requests aborted, leases
    given to a second consumer: so many of them together."""
    sizes: tuple[int, ...] = (2, 1)
    """Blocks of each lease, in the order in which their prefills come."""
    blocks: int = 3
    slots: int = 2
    workers: int = 2
    consumers: int = 2
    fine: bool = False
    """Every block, word and worker is an action of its own; otherwise as `actions.eager` says."""
    kinds: tuple[str, ...] = ()
    """The faults that there are; empty: all of them (`actions.FAULTS`)."""
