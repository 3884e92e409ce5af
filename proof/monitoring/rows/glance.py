"""The figures that say at a glance whether to look further."""

from proof.monitoring.panels import DashboardPanel, DashboardRow, Query, in_range, kvlease

AT_A_GLANCE = DashboardRow(
    asks="At a glance",
    panels=(
        DashboardPanel(
            title="Lease agents up",
            about="Engines whose lease agent runs. One that is dead grants nothing until its engine is restarted.",
            queries=(Query(f"sum({kvlease('agent_up')})", "up"),),
            unit="none",
            number=True,
        ),
        DashboardPanel(
            title="Lease agents down",
            about="Engines whose lease agent is dead.",
            queries=(Query(f"count({kvlease('agent_up')} == 0) or vector(0)", "down"),),
            unit="none",
            number=True,
            worry_above=0,
        ),
        DashboardPanel(
            title="Leases held",
            about="Leases granted and not over, on all engines.",
            queries=(Query(f"sum({kvlease('active_leases')})", "held"),),
            unit="none",
            number=True,
        ),
        DashboardPanel(
            title="Memory held",
            about="KV cache held for decode engines.",
            queries=(Query(f"sum({kvlease('held_bytes')})", "held"),),
            unit="bytes",
            number=True,
        ),
        DashboardPanel(
            title="Held for nobody heard",
            about="KV cache held for decode engines that are dead, or have not renewed for two intervals.",
            queries=(Query(f"sum({kvlease('unheard_bytes')})", "unheard"),),
            unit="bytes",
            number=True,
            worry_above=0,
        ),
        DashboardPanel(
            title="Late reads refused",
            about="Reads that came too late and that the fence refused, in the time shown. No answer was wrong.",
            queries=(Query(in_range("fence_checks", 'verdict="revoked"'), "late"),),
            unit="none",
            number=True,
            worry_above=0,
        ),
        DashboardPanel(
            title="Prompt tokens computed twice",
            about="Tokens that a decode engine computed although a prefill engine had, in the time shown.",
            queries=(Query(in_range("wasted_prefill_tokens"), "tokens"),),
            number=True,
            worry_above=0,
        ),
        DashboardPanel(
            title="Alerts that fire",
            about="kvlease's own alerts, by monitoring/rules.yml.",
            queries=(Query('count(ALERTS{alertname=~"Kvlease.*", alertstate="firing"}) or vector(0)', "firing"),),
            unit="none",
            number=True,
            worry_above=0,
        ),
    ),
)
