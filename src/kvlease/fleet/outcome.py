"""The outcome of a run: plain data, from which the report, the JSON and the plan are made.

Time is simulated unless a name says `wall`. The **window** is the time from 0 to the last arrival; rates and shares are
those of the window, totals those of the whole run, which goes on until nothing is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requests:
    """The number of requests by their end: each that arrived is counted in exactly one of the other fields."""

    arrived: int
    right: int
    wrong: int
    """The requests answered with HTTP 200 from KV cache that belonged to others."""
    failed: int
    """The requests answered with an error: engines died too often, none is large enough, or the load failed and the
    policy is not to recompute."""
    gave_up: int
    """The clients whose patience ended before the first token."""
    aborted: int
    """The clients that left for reasons of their own. Requests that the router lost count as gave_up, or as aborted if
    patience has no end."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """The KV memory of producers under leases. `stranded`: nobody wants it any more, and it is not yet free.

    A lease is not wanted any more once its data was read, or its request ended or was given up by the router.
    """

    capacity: int
    """The number of blocks of all producers."""
    held_block_s: float
    """The block-seconds under leases, wanted or not."""
    held_share: float
    """The share of the capacity that is held, on average over the window."""
    held_peak: int
    stranded_block_s: float
    stranded_share: float
    stranded_peak: int
    stranded_read_block_s: float
    """The part of `stranded_block_s` that was read: the time until the producer hears of the completion."""
    lapsed_block_s: float
    """The block-seconds that were free, and still readable under a lease that was over (kvlease)."""
    lapsed_share: float
    blocked_s: float
    """The seconds, summed over producers, in which the next prompt waited for blocks alone."""


@dataclass(frozen=True, slots=True)
class Prefills:
    """The work of the prefill engines, and the part of it that was of no use."""

    done: int
    tokens: int
    wasted: int
    """The prefills computed on a producer and never read for a right answer."""
    wasted_tokens: int
    repeated: int
    """The prefills computed on a producer although one had computed the same request before."""
    repeated_tokens: int
    recomputed: int
    """The prefills computed by a consumer, whose decoding stopped meanwhile."""
    recomputed_tokens: int


@dataclass(frozen=True, slots=True)
class Leases:
    """The ends of leases, and of the reads under them."""

    granted: int
    ends: Mapping[str, int]
    """The ends by cause: released, expired, orphaned, aborted, aged_out (as in `kvlease.protocol.Cause`), crashed.
    Under kvlease they are lapses; a lease that was revived has more than one."""
    lost_while_wanted: int
    """The leases that their producer ended while somebody still wanted them: false expiries. Under kvlease a lease has
    ended when it has lapsed and one of its blocks was given to others."""
    revived: int
    """The leases that had lapsed and were claimed again in time (kvlease)."""
    late_reads: int
    """The reads that ended after their blocks were freed."""
    late_reads_wrong: int
    """The late reads whose blocks had been given to others: wrong answers, unless the fence refused them."""
    late_reads_refused: int
    """The late reads that the fence refused."""
    reads_not_begun: int
    """The reads that did not begin, since the consumer knew in time that the lease was lost."""
    takeovers: int
    """The leases that a second consumer read after the first had died."""
    failed_reads: int
    """The reads that failed since the producer was dead."""


@dataclass(frozen=True, slots=True)
class LeaseTraffic:
    """The messages that exist for leases alone, in both directions, over the whole run."""

    messages: int
    bytes: int
    messages_by_kind: Mapping[str, int]
    """The number of messages by kind: heartbeat and notice (flat, stock); hello, welcome, renew, ack, gone, probe, bye,
    card, fence (kvlease)."""
    bytes_by_kind: Mapping[str, int]
    messages_per_request: float
    bytes_per_request: float
    messages_per_s: float
    """The messages a second over the window."""
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """The distribution of one quantity in seconds; all zero when there is nothing to count."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """The events in each of equally long parts of the run, beginning at 0; at most `timeline.MOST_PARTS`."""

    part_s: float
    arrived: tuple[int, ...]
    good: tuple[int, ...]
    """The right answers within the SLO, by the time of their end."""
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    held_blocks: tuple[float, ...]
    """The blocks under leases, on average over the part."""
    stranded_blocks: tuple[float, ...]
    waiting: tuple[float, ...]
    """The requests that have no first token yet, on average over the part."""
    bytes: tuple[int, ...]
    """The bytes of lease traffic."""
    crashes: tuple[int, ...]
    stalls: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of the simulation itself."""

    wall_s: float
    events: int
    requests_per_wall_s: float


@dataclass(frozen=True, slots=True)
class FleetOutcome:
    """The outcome of one policy under one traffic and its faults. Equal seeds give equal outcomes, wall time apart."""

    policy: str
    """The policy's name, such as `kvlease 30 s`."""
    policy_kind: str
    """The policy's kind: `flat`, `stock` or `kvlease`."""
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
    """The right answers within the SLO per second of the window, those that came after it included."""
    good_share: float
    """The right answers within the SLO as a share of the requests that arrived."""
    right_per_s: float
    ttft: Distribution
    """The time to first token of right answers, retries included."""
    per_token: Distribution
    """The mean time per output token after a request's first one, over right answers of more than one token."""
    crashes: int
    stalls: int
    timeline: Timeline
    cost: Cost
