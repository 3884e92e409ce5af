"""Decisions of an operator: to stop an engine, to change the term; and the peers that engines talk to."""

from proof.monitoring.panels import DashboardPanel, DashboardRow, Query, by, chosen, kvlease, per_second, quantiles

DRAIN = DashboardRow(
    asks="May I shut this engine down?",
    note=(
        "A prefill engine may be stopped when it drains and holds no lease:\n\n"
        "    curl -X POST 'http://ENGINE:PORT/v1/kvlease/drain?wait=60'\n\n"
        "answers when none is left. What is lapsed nobody is known to want."
    ),
    panels=(
        DashboardPanel(
            title="Leases left",
            about="Leases out of engines that drain: 0 is the signal to stop. Nothing here: no engine drains.",
            queries=(Query(f"{kvlease('active_leases')} and {kvlease('draining')} == 1"),),
        ),
        DashboardPanel(
            title="Draining",
            about="1 while the engine grants no new leases.",
            queries=(Query(kvlease("draining")),),
            unit="none",
        ),
        DashboardPanel(
            title="Prefills declined, a second",
            about="Prefills without a lease, by reason: `draining` belongs to a drain, the others are faults.",
            queries=(Query(by("reason", per_second("declined_offers")), "{{reason}}"),),
            unit="ops",
        ),
    ),
)

TERM = DashboardRow(
    asks="Is the term right?",
    panels=(
        DashboardPanel(
            title="From grant to claim",
            about="The time that kv_lease_duration has to cover: through the router, until a decode engine claims.",
            queries=quantiles("claim_wait_seconds", "p50", "p99"),
            unit="s",
        ),
        DashboardPanel(
            title="Term that loses under one lease in a million",
            about="Of all prefill engines, from their last week. Infinite: too few leases to say; ask the doctor.",
            queries=(Query("kvlease:term_for_one_in_a_million:seconds", "term"),),
            unit="s",
            number=True,
        ),
        DashboardPanel(
            title="Share of leases that the present term loses, at most",
            about="At 95 %, from a week of all prefill engines. One in a million takes three million leases.",
            queries=(Query("kvlease:leases_claimed_too_late:share_at_most", "at most"),),
            unit="percentunit",
            number=True,
        ),
        DashboardPanel(
            title="Share of leases claimed after their term",
            about="0 in good times. A longer term costs memory only where requests get lost.",
            queries=(Query(chosen("engine:kvlease_late_claims:ratio_rate5m")),),
            unit="percentunit",
        ),
        DashboardPanel(
            title="Age at the end",
            about="How long leases hold memory, from grant to end.",
            queries=quantiles("lease_age_seconds", "p50", "p99"),
            unit="s",
        ),
        DashboardPanel(
            title="From claim to release",
            about="The time in a decode engine: its queue, and the read.",
            queries=quantiles("claim_to_release_seconds", "p50", "p99"),
            unit="s",
        ),
    ),
)

PEERS = DashboardRow(
    asks="Do the engines understand each other?",
    panels=(
        DashboardPanel(
            title="Messages sent, a second",
            about="By kind. A pair of engines that holds leases sends a renewal an interval, and probes.",
            queries=(Query(by("kind", per_second("messages_sent")), "{{kind}}"),),
            unit="ops",
        ),
        DashboardPanel(
            title="Bytes of messages sent, a second",
            about="What leases cost the network.",
            queries=(Query(by("kind", per_second("message_bytes_sent")), "{{kind}}"),),
            unit="Bps",
        ),
        DashboardPanel(
            title="Renewals, a second",
            about="One for each session and interval. Standing still with requests waiting: that engine is paused.",
            queries=(Query(by("direction", per_second("renewals")), "{{direction}}"),),
            unit="ops",
        ),
        DashboardPanel(
            title="Refused, unfenced and unreachable, a second",
            about="All of these are 0 in good times, but for crashes and restarts.",
            queries=(
                Query(by("kind", per_second("refused")), "refused, {{kind}}"),
                Query(f"sum({per_second('unfenced_reads')})", "unfenced reads"),
                Query(by("reason", per_second("other_prompts")), "other prompts, {{reason}}"),
                Query(by("operation", per_second("transport_failures")), "unreachable, {{operation}}"),
            ),
            unit="ops",
        ),
    ),
)
