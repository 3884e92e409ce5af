"""The histograms: how long things took, in seconds.

The fence is read by workers, and the other times are taken in the agent's thread.
"""

from kvlease.metrics.metric import FINE, Counted, Kind, Metric, steps

HISTOGRAMS = (
    Metric(
        "claim_wait_seconds",
        Kind.HISTOGRAM,
        "On P: from a lease's grant to its first claim, for leases that are claimed: how much of its term a request "
        "needs.",
        "far below `kv_lease_duration`",
        "it reaches `kv_lease_duration`: the term is too short for your queues",
        buckets=steps(0.001, 700, FINE),
    ),
    Metric(
        "claim_to_release_seconds",
        Kind.HISTOGRAM,
        "On P: from a lease's first claim to its release, which is when all is read: for how long a reader holds P's "
        "memory.",
        "D's queue and the time of a read",
        "it grows: decode engines are full, or reads are slow",
        buckets=steps(0.001, 1000),
    ),
    Metric(
        "lease_age_seconds",
        Kind.HISTOGRAM,
        "On P: from a lease's grant to its end, whatever the cause.",
        "`claim_wait_seconds` and `claim_to_release_seconds` together",
        "it comes near `kv_lease_max_age`",
        buckets=steps(0.001, 1000),
    ),
    Metric(
        "renewal_remaining_seconds",
        Kind.HISTOGRAM,
        "On P: what was left of the extension when a renewal came. 0 is a renewal in the last moment.",
        "`kv_lease_extension` less `kv_lease_renew_interval`, or more",
        "it comes near 0: decode engines stall, or their network does; a longer `kv_lease_extension` helps",
        buckets=steps(0.01, 700, FINE),
    ),
    Metric(
        "ack_round_trip_seconds",
        Kind.HISTOGRAM,
        "On D: from a renewal's sending to its producer's acknowledgement.",
        "some milliseconds, up to two pauses of the agents, 10 ms each",
        "it is above 0.25 s, after which a message is sent again: an agent's thread or the network stands",
        buckets=steps(0.0005, 50),
    ),
    Metric(
        "fence_read_seconds",
        Kind.HISTOGRAM,
        "On D: from the posting of a request's fence reads to their verdict, in each worker.",
        "below 0.001 s",
        "it is above the time of a step: a P that stands still, or a slow network. Each request waits for it",
        counted=Counted.WORKER,
        buckets=steps(0.00001, 20),
    ),
    Metric(
        "agent_lag_seconds",
        Kind.HISTOGRAM,
        "How late the agent's thread took a turn, after the pause that it chose.",
        "below 0.01 s",
        "it is often above 0.1 s: the scheduler's process, or its machine, has no processor time for renewals",
        buckets=steps(0.0001, 100),
    ),
)
