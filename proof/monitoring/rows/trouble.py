"""Decode engines in trouble, and what it did to reads."""

from proof.monitoring.panels import DashboardPanel, DashboardRow, Query, by, per_second, quantiles

DECODERS = DashboardRow(
    asks="Is a decode engine dying or slow?",
    panels=(
        DashboardPanel(
            title="Leases that ended unread, a second",
            about="Orphaned: their decode engine died. Expired: nobody came. Aged out: they waited too long.",
            queries=(
                Query(by("cause", per_second("lease_ends", 'cause=~"orphaned|expired|aged_out|revoked"')), "{{cause}}"),
            ),
            unit="ops",
        ),
        DashboardPanel(
            title="Left when a renewal came",
            about="How much of the extension was left. Worry when the first percentile nears 0.",
            queries=quantiles("renewal_remaining_seconds", "p1", "p50"),
            unit="s",
        ),
        DashboardPanel(
            title="Acknowledgements",
            about="From a renewal to its acknowledgement, as decode engines see it.",
            queries=quantiles("ack_round_trip_seconds", "p50", "p99"),
            unit="s",
        ),
        DashboardPanel(
            title="How late lease agents are",
            about="An agent that does not get the processor takes its turns late: near the extension, leases are lost.",
            queries=quantiles("agent_lag_seconds", "p50", "p99"),
            unit="s",
        ),
    ),
)

READS = DashboardRow(
    asks="Was anything read too late?",
    panels=(
        DashboardPanel(
            title="Reads by verdict, a second",
            about="Intact ones alone are used. Revoked: too late, and refused. The others: not readable.",
            queries=(Query(by("verdict", per_second("fence_checks")), "{{verdict}}"),),
            unit="ops",
        ),
        DashboardPanel(
            title="Leases lost, and claimed late, a second",
            about="Lost: noticed before the read. Claimed late, in time: spare memory saved a prefill.",
            queries=(
                Query(f"sum({per_second('lost_leases')})", "lost"),
                Query(by("outcome", per_second("late_claims")), "claimed late, {{outcome}}"),
            ),
            unit="ops",
        ),
        DashboardPanel(
            title="Prompt tokens wasted and saved, a second",
            about="Wasted: a decode engine computed them again. Saved: a late claim found them still there.",
            queries=(
                Query(by("reason", per_second("wasted_prefill_tokens")), "wasted, {{reason}}"),
                Query(f"sum({per_second('saved_prefill_tokens')})", "saved"),
            ),
        ),
        DashboardPanel(
            title="Reading a fence",
            about="The time that a worker takes to read a lease's fence.",
            queries=quantiles("fence_read_seconds", "p50", "p99"),
            unit="s",
        ),
    ),
)
