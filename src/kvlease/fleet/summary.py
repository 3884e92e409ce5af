"""The outcome of a run, made from its books."""

from array import array

from kvlease.fleet.books import FleetBooks
from kvlease.fleet.context import FleetContext
from kvlease.fleet.leasing import Policy
from kvlease.fleet.outcome import (
    Blocks,
    Cost,
    Distribution,
    FleetOutcome,
    Leases,
    LeaseTraffic,
    Prefills,
    Requests,
)


def summary(context: FleetContext, policy: Policy, seed: int, wall_s: float) -> FleetOutcome:
    """Returns the outcome of a run after its last event."""
    fleet, books, now = context.fleet, context.books, context.agenda.now
    assert books.window is not None
    window_s = books.window[0]
    good, right = books.counts["good"], books.ends["right"]
    return FleetOutcome(
        policy=policy.name,
        policy_kind=policy.kind,
        policy_settings=dict(policy.settings),
        seed=seed,
        window_s=window_s,
        simulated_s=now,
        requests=_requests(books),
        blocks=_blocks(books, fleet.producers * fleet.producer_blocks, now),
        prefills=_prefills(books),
        leases=_leases(books),
        traffic=_traffic(books),
        goodput_per_s=_ratio(good, window_s),
        good_share=_ratio(good, books.arrived),
        right_per_s=_ratio(right, window_s),
        ttft=distribution(books.ttft),
        per_token=distribution(books.per_token),
        crashes=books.counts["crashes"],
        stalls=books.counts["stalls"],
        timeline=books.recorder.result(),
        cost=Cost(wall_s=wall_s, events=context.agenda.events, requests_per_wall_s=_ratio(books.arrived, wall_s)),
    )


def distribution(values: "array[float]") -> Distribution:
    """Returns the distribution of values, with percentiles by nearest rank."""
    if not values:
        return Distribution(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    ranked = sorted(values)
    count = len(ranked)
    p50, p90, p99 = (ranked[max(0, -(-count * percent // 100) - 1)] for percent in (50, 90, 99))
    return Distribution(count, sum(ranked) / count, p50, p90, p99, ranked[-1])


def _requests(books: FleetBooks) -> Requests:
    ends = books.ends
    return Requests(books.arrived, ends["right"], ends["wrong"], ends["failed"], ends["gave_up"], ends["aborted"])


def _blocks(books: FleetBooks, capacity: int, now: float) -> Blocks:
    assert books.window is not None
    window_s, in_window, _, _ = books.window
    whole = books.areas(now)
    return Blocks(
        capacity=capacity,
        held_block_s=whole.held,
        held_share=_ratio(in_window.held, capacity * window_s),
        held_peak=books.held_peak,
        stranded_block_s=whole.stranded,
        stranded_share=_ratio(in_window.stranded, capacity * window_s),
        stranded_peak=books.stranded_peak,
        stranded_read_block_s=whole.stranded_read,
        lapsed_block_s=whole.lapsed,
        lapsed_share=_ratio(in_window.lapsed, capacity * window_s),
        blocked_s=books.counts["blocked_ms"] / 1000,
    )


def _prefills(books: FleetBooks) -> Prefills:
    counts = books.counts
    return Prefills(
        done=counts["done"],
        tokens=counts["tokens"],
        wasted=counts["wasted"],
        wasted_tokens=counts["wasted_tokens"],
        repeated=counts["repeated"],
        repeated_tokens=counts["repeated_tokens"],
        recomputed=counts["recomputed"],
        recomputed_tokens=counts["recomputed_tokens"],
    )


def _leases(books: FleetBooks) -> Leases:
    counts = books.counts
    return Leases(
        granted=counts["granted"],
        ends=dict(sorted(books.lease_ends.items())),
        lost_while_wanted=counts["lost_while_wanted"],
        revived=counts["revived"],
        late_reads=counts["late_reads"],
        late_reads_wrong=counts["late_reads_wrong"],
        late_reads_refused=counts["late_reads_refused"],
        reads_not_begun=counts["reads_not_begun"],
        takeovers=counts["takeovers"],
        failed_reads=counts["failed_reads"],
    )


def _traffic(books: FleetBooks) -> LeaseTraffic:
    assert books.window is not None
    window_s, _, messages, size = books.window
    all_messages, all_bytes = books.messages.total(), books.bytes.total()
    return LeaseTraffic(
        messages=all_messages,
        bytes=all_bytes,
        messages_by_kind=dict(sorted(books.messages.items())),
        bytes_by_kind=dict(sorted(books.bytes.items())),
        messages_per_request=_ratio(all_messages, books.arrived),
        bytes_per_request=_ratio(all_bytes, books.arrived),
        messages_per_s=_ratio(messages, window_s),
        bytes_per_s=_ratio(size, window_s),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
