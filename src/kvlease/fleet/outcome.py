"""What came of a run: plain data, from which the report, the JSON and the plan are made.

Time is simulated unless a name says `wall`. The **window** is the time from 0 to the last arrival; what is a rate or a
share is of the window, what is a total is of the whole run, which goes on until nothing is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requests:
    """How requests ended: every one that arrived is exactly one of the others."""

    arrived: int
    right: int
    wrong: int
    """Answered with HTTP 200 out of KV that belonged to others."""
    failed: int
    """Answered with an error: engines died under it too often, it fits into none, or its load failed and the policy is
    not to recompute."""
    gave_up: int
    """Clients whose patience ended before the first token."""
    aborted: int
    """Clients that went away for reasons of their own; requests that the router lost are gave_up, or aborted if the
    patience has no end."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """KV memory of producers under leases. `stranded`: nobody wants it any more, and it is not yet free.

    Nobody wants a lease from the moment its data was read, or its request ended, or was given up by the router.
    """

    capacity: int
    """Blocks of all producers."""
    held_block_s: float
    """Block-seconds under leases, wanted or not."""
    held_share: float
    """Of capacity, on average over the window."""
    held_peak: int
    stranded_block_s: float
    stranded_share: float
    stranded_peak: int
    stranded_read_block_s: float
    """The part of `stranded_block_s` that was read: the way of the completion back to the producer."""
    blocked_s: float
    """Seconds, summed over producers, in which the next prompt waited for blocks alone."""


@dataclass(frozen=True, slots=True)
class Prefills:
    """Work of the prefill engines, and what of it was for nothing."""

    done: int
    tokens: int
    wasted: int
    """Computed on a producer and never read for a right answer."""
    wasted_tokens: int
    repeated: int
    """Computed on a producer though one had computed the same request before."""
    repeated_tokens: int
    recomputed: int
    """Computed by a consumer, whose decoding stood still meanwhile."""
    recomputed_tokens: int


@dataclass(frozen=True, slots=True)
class Leases:
    """What became of leases and of the reads under them."""

    granted: int
    ends: Mapping[str, int]
    """By cause: released, expired, orphaned, aborted, aged_out (as in `kvlease.protocol.Cause`), and crashed."""
    lost_while_wanted: int
    """Ended by their producer while somebody still wanted them: a false expiry."""
    late_reads: int
    """Reads that ended after their blocks were taken back."""
    late_reads_wrong: int
    """Of these, such that the blocks had been given to others: a wrong answer, unless the fence stood before it."""
    late_reads_refused: int
    """Of the late reads, those that the fence refused."""
    reads_not_begun: int
    """The consumer knew in time that the lease was lost."""
    takeovers: int
    """Leases that a second consumer read after the first had died."""
    failed_reads: int
    """The producer was dead."""


@dataclass(frozen=True, slots=True)
class LeaseTraffic:
    """Messages that are there for leases alone, both directions, over the whole run."""

    messages: int
    bytes: int
    messages_by_kind: Mapping[str, int]
    """heartbeat and notice (flat, stock); hello, welcome, renew, ack, gone, probe, bye, card, fence (kvlease)."""
    bytes_by_kind: Mapping[str, int]
    messages_per_request: float
    bytes_per_request: float
    messages_per_s: float
    """Over the window."""
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of one quantity in seconds; all zero when there is nothing to count."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened in each of equally long parts of the run, beginning at 0; at most `timeline.MOST_PARTS`."""

    part_s: float
    arrived: tuple[int, ...]
    good: tuple[int, ...]
    """Right answers within the SLO, at the time of their end."""
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    held_blocks: tuple[float, ...]
    """Under leases, on average over the part."""
    stranded_blocks: tuple[float, ...]
    waiting: tuple[float, ...]
    """Requests that have no first token yet, on average over the part."""
    bytes: tuple[int, ...]
    """Of lease traffic."""
    crashes: tuple[int, ...]
    stalls: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the simulation itself."""

    wall_s: float
    events: int
    requests_per_wall_s: float


@dataclass(frozen=True, slots=True)
class FleetOutcome:
    """One policy under one traffic and one sequence of faults. Equal seeds give equal outcomes, `cost.wall_s` apart."""

    policy: str
    """Its name, such as `kvlease 30 s`."""
    policy_kind: str
    """`flat`, `stock` or `kvlease`."""
    policy_settings: Mapping[str, float]
    seed: int
    window_s: float
    simulated_s: float
    requests: Requests
    blocks: Blocks
    prefills: Prefills
    leases: Leases
    traffic: LeaseTraffic
    goodput_per_s: float
    """Right answers within the SLO per second of the window, those that came after it included."""
    good_share: float
    """The same as a share of what arrived."""
    right_per_s: float
    ttft: Distribution
    """Time to first token of right answers, retries included."""
    per_token: Distribution
    """Mean time per output token of a request after its first one, over the right answers of more than one token."""
    crashes: int
    stalls: int
    timeline: Timeline
    cost: Cost
