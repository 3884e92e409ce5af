"""The explored world's time. It passes in ticks of one second, so that every deadline is a small whole number.

A tick is the agent's longest pause, the retry of a message, the renewal interval, the orphan grace and the probe
interval; the term and the extension are two, the maximum age is four. The real time that a tick stands for differs from
constant to constant; the order of the deadlines does not.
"""

from dataclasses import dataclass

from kvlease.protocol import Fingerprint, LeaseConfig, Timing

TICK_S = 1.0
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
IN_TICKS = Timing(lag_tolerance_s=TICK_S, session_idle_s=3.0, retry_s=TICK_S, tries=2, backoff_max_s=2.0, idle_s=1.0)


def prompt(number: int) -> Fingerprint:
    """The prompt with this number: all are as long as each other, and no two are the same."""
    return Fingerprint(1, number)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a world: how many of each thing there are, and so what is explored."""

    ticks: int = 4
    """The number of ticks for which the world is played; `liveness` plays what comes after."""
    faults: int = 1
    """The number of faults in all: messages lost, doubled or held back, processes killed, frozen or wrongly reported
    dead, requests aborted, references given to a second consumer or to another prompt's request."""
    sizes: tuple[int, ...] = (2, 1)
    """Blocks of each lease, in the order in which their prefills come."""
    blocks: int = 3
    slots: int = 2
    workers: int = 2
    consumers: int = 2
    by_order: bool = False
    """True where workers write their fence words by order; else the producer's scheduler writes them itself."""
    alike: int = 0
    """The number of prompts, from the first one on, that begin with the same block, which the cache keeps."""
    any_order: bool = False
    """True where the pool may also give away first what vLLM's would give away last."""
    fine: bool = False
    """True where every block, word, worker and part of a step is an action of its own; else see `Actions.eager`."""
    kinds: tuple[str, ...] = ()
    """The kinds of fault that there are; empty: all of them (`actions.FAULTS`)."""
