"""Leases, for whom they are held, and how much memory that takes."""

from proof.monitoring.panels import DashboardPanel, DashboardRow, Query, by, chosen, kvlease, per_second

LEASES = DashboardRow(
    asks="Which leases are held?",
    panels=(
        DashboardPanel(
            title="Leases out",
            about="Granted and not over. They follow the traffic, and go back to 0 when nothing waits.",
            queries=(Query(kvlease("active_leases")),),
        ),
        DashboardPanel(
            title="Claimed, and not claimed yet",
            about="A lease that nobody has claimed is on its way through the router, or its request is lost.",
            queries=(
                Query(f"sum({kvlease('claimed_leases')})", "claimed"),
                Query(f"sum({kvlease('active_leases')}) - sum({kvlease('claimed_leases')})", "not claimed yet"),
            ),
            stacked=True,
        ),
        DashboardPanel(
            title="Grants and ends a second",
            about="Ends by cause. Nearly all should be released: read, or given up by their request.",
            queries=(
                Query(f"sum({per_second('grants')})", "granted"),
                Query(by("cause", per_second("lease_ends")), "{{cause}}"),
            ),
            unit="ops",
        ),
    ),
)

CONSUMERS = DashboardRow(
    asks="Who are they held for?",
    note=(
        "Metrics have no label for each decode engine: it would grow without bounds. Names are one question away:\n\n"
        "    kvlease top http://ENGINE:PORT …\n"
        "    curl http://ENGINE:PORT/v1/kvlease/sessions\n"
        "    curl http://ENGINE:PORT/v1/kvlease/leases"
    ),
    panels=(
        DashboardPanel(
            title="Sessions",
            about="One for each pair of engines that talk. Worry when they grow without engines being added.",
            queries=(Query(by("instance, engine, role", kvlease("sessions")), "{{role}} of {{instance}}/{{engine}}"),),
        ),
        DashboardPanel(
            title="Leases of decode engines that nobody hears",
            about="Dead: the transport says so. Silent: no renewal for two intervals.",
            queries=(
                Query(
                    by("instance, engine, consumer", kvlease("unheard_leases")), "{{consumer}}, {{instance}}/{{engine}}"
                ),
            ),
        ),
    ),
)

MEMORY = DashboardRow(
    asks="How much memory do they hold?",
    panels=(
        DashboardPanel(
            title="KV cache held",
            about="Memory of leases that are out. Worry when it grows to what the engine has: readers are too slow.",
            queries=(Query(kvlease("held_bytes")),),
            unit="bytes",
        ),
        DashboardPanel(
            title="Held, unheard and lapsed",
            about="Unheard is a part of held. Lapsed memory is free and still readable: it costs nothing.",
            queries=(
                Query(f"sum({kvlease('held_bytes')})", "held"),
                Query(f"sum({kvlease('unheard_bytes')})", "held for nobody heard"),
                Query(f"sum({kvlease('lapsed_bytes')})", "lapsed (free)"),
            ),
            unit="bytes",
        ),
        DashboardPanel(
            title="KV cache in use",
            about="vLLM's own figure: running requests and held leases together.",
            queries=(Query(chosen("vllm:kv_cache_usage_perc")),),
            unit="percentunit",
        ),
        DashboardPanel(
            title="Prompt tokens held",
            about="The prompts of all leases that are out, in tokens.",
            queries=(Query(kvlease("held_tokens")),),
        ),
    ),
)
