"""Times of trouble, one for each alert at least, and good ones, as series that promtool plays to the rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field

QUIET_STEPS, TROUBLED_STEPS = 40, 120
"""Samples before the trouble begins and from then on, each `STEP_S` apart: ten minutes and thirty."""
STEP_S = 15
QUIET_S = QUIET_STEPS * STEP_S
EARLY_S = QUIET_S + 3 * STEP_S
"""A time when the trouble has just begun: no alert that has to wait fires yet."""
LATE_S = QUIET_S + TROUBLED_STEPS * STEP_S

Series = Mapping[str, str]
"""Series by their names with labels, and their values in promtool's notation."""


@dataclass(frozen=True)
class Case:
    """The figures of engines, and the alerts that fire early and late for them."""

    name: str
    series: Series = field(hash=False)
    late: frozenset[str]
    early: frozenset[str] = frozenset()


def of(instance: str, metric: str, **labels: str) -> str:
    """Returns the name of a series of an engine."""
    named = {"instance": instance, "job": "vllm", "model_name": "m", "engine": "0"} | labels
    matchers = ", ".join(f'{label}="{value}"' for label, value in named.items())
    return f"{metric}{{{matchers}}}"


def of_router(metric: str, **labels: str) -> str:
    """Returns the name of a series of the router."""
    matchers = ", ".join(f'{label}="{value}"' for label, value in ({"instance": "R", "job": "router"} | labels).items())
    return f"kvlease_router:{metric}{{{matchers}}}"


def always(value: float) -> str:
    return f"{value:g}x{QUIET_STEPS + TROUBLED_STEPS}"


def first_then(value: float, then: float) -> str:
    """Returns the values of a gauge that changes when the trouble begins."""
    return f"{value:g}x{QUIET_STEPS} {then:g}x{TROUBLED_STEPS - 1}"


def growing(step: float = 1) -> str:
    """Returns the values of a counter that counts all the time."""
    return f"0+{step:g}x{QUIET_STEPS + TROUBLED_STEPS}"


def rising(step: float = 1) -> str:
    """Returns the values of a counter that begins to count when the trouble begins."""
    return f"0x{QUIET_STEPS} {step:g}+{step:g}x{TROUBLED_STEPS - 1}"


def slowing(step: float = 10) -> str:
    """Returns the values of a counter that counts half as fast when the trouble begins."""
    return f"0+{step:g}x{QUIET_STEPS} {step * QUIET_STEPS + step / 2:g}+{step / 2:g}x{TROUBLED_STEPS - 1}"


def burst(steps: int = 4) -> str:
    """Returns the values of a counter that counts for a minute."""
    return f"0x{QUIET_STEPS} 1+1x{steps - 1} {steps}x{TROUBLED_STEPS - steps}"


def histogram(instance: str, name: str, **buckets: str) -> Series:
    """Returns a histogram's buckets: `le_0_1` is the one up to 0.1."""
    bounds = {str(float(key.removeprefix("le_").replace("_", "."))): values for key, values in buckets.items()}
    return {of(instance, f"kvlease:{name}_bucket", le=bound): values for bound, values in bounds.items()} | {
        of(instance, f"kvlease:{name}_bucket", le="+Inf"): growing(10)
    }


CAUSES = ("released", "expired", "orphaned", "aborted", "aged_out", "reset", "revoked")
GOOD: Series = {
    **{of(engine, "kvlease:agent_up"): always(1) for engine in "PD"},
    **{of(engine, "kvlease:draining"): always(0) for engine in "PD"},
    of("P", "kvlease:active_leases"): "0+1x4 5-1x4 " * 17,
    of("P", "kvlease:held_blocks"): "0+10x4 50-10x4 " * 17,
    **{of("P", "kvlease:unheard_leases", consumer=who): always(0) for who in ("dead", "silent")},
    of("P", "kvlease:grants_total"): growing(10),
    **{of("P", "kvlease:lease_ends_total", cause=cause): always(0) for cause in CAUSES[1:]},
    of("P", "kvlease:lease_ends_total", cause="released"): growing(10),
    **{of("P", "kvlease:late_claims_total", outcome=outcome): always(0) for outcome in ("in_time", "too_late")},
    of("P", "kvlease:crash_reclaims_total"): always(0),
    of("P", "kvlease:unfenced_reads_total"): always(0),
    **{of("P", "kvlease:declined_offers_total", reason=why): always(0) for why in ("no_slot", "no_agent", "draining")},
    of("D", "kvlease:fence_checks_total", verdict="intact"): growing(10),
    **{of("D", "kvlease:fence_checks_total", verdict=no): always(0) for no in ("revoked", "failed", "no_fence")},
    of("D", "kvlease:lost_leases_total"): always(0),
    **{of("D", "kvlease:other_prompts_total", reason=why): always(0) for why in ("length", "content", "media")},
    **{of("D", "kvlease:wasted_prefill_tokens_total", reason=why): always(0) for why in ("lost", "revoked")},
    **{of("D", "kvlease:transport_failures_total", operation=what): always(0) for what in ("send", "connect")},
    of("P", "kvlease:refused_total", kind="hello_version"): always(0),
    **{of(engine, "vllm:prompt_tokens_total"): growing(10_000) for engine in "PD"},
    **{of(engine, "vllm:kv_cache_usage_perc"): always(0.5) for engine in "PD"},
    **{of(engine, "vllm:num_requests_waiting"): always(3) for engine in "PD"},
    of_router("engines", role="decode", condition="up"): always(2),
    of_router("engines", role="decode", condition="draining"): always(0),
    of_router("engines", role="decode", condition="down"): always(0),
    **{of_router("refused_total", why=why): always(0) for why in ("no_engine", "engine_failed", "queue_full")},
    of_router("requests_total", endpoint="chat", outcome="finished"): growing(10),
    of_router("requests_total", endpoint="chat", outcome="broken_off"): always(0),
    **{of_router("second_prefills_total", why=why): always(0) for why in ("unfenced", "no_reader")},
    **histogram("P", "claim_wait_seconds", le_0_1=growing(9), le_1=growing(10)),
    **histogram("P", "renewal_remaining_seconds", le_1="0x160", le_10=growing(1), le_20=growing(10)),
    **histogram("D", "ack_round_trip_seconds", le_0_1=growing(10), le_5=growing(10)),
    **histogram("D", "agent_lag_seconds", le_0_1=growing(10), le_5=growing(10)),
    **histogram("D", "fence_read_seconds", le_0_01=growing(10), le_5=growing(10)),
}
"""A prefill engine P and a decode engine D that work, and a router R in front of them."""


def trouble(alert: str, series: Series, *, at_once: bool = False) -> Case:
    """Returns the good times with these series in place of theirs, for which one alert fires."""
    missing = series.keys() - GOOD.keys()
    assert not missing, f"no such series in good times: {missing}"
    fires = frozenset((alert,))
    return Case(alert, {**GOOD, **series}, fires, fires if at_once else frozenset())


def calm(name: str, series: Series, early: str = "") -> Case:
    """Returns a case for which no alert fires in the end."""
    return Case(name, {**GOOD, **series}, frozenset(), frozenset((early,)) if early else frozenset())


def counts(alert: str, instance: str, metric: str, *, at_once: bool = False, **labels: str) -> Case:
    """Returns the case of a counter that must not count, and begins to."""
    return trouble(alert, {of(instance, f"kvlease:{metric}_total", **labels): rising()}, at_once=at_once)


CASES = (
    calm("good times", {}),
    trouble("KvleaseAgentDown", {of("P", "kvlease:agent_up"): first_then(1, 0)}),
    trouble("KvleaseAgentLate", histogram("D", "agent_lag_seconds", le_0_1=slowing(), le_5=growing(10))),
    trouble(
        "KvleaseDrainStuck",
        {of("P", "kvlease:draining"): first_then(0, 1), of("P", "kvlease:active_leases"): always(2)},
    ),
    trouble("KvleaseUnheardLeases", {of("P", "kvlease:unheard_leases", consumer="silent"): first_then(0, 3)}),
    trouble(
        "KvleaseMemoryHeld",
        {of("P", "vllm:kv_cache_usage_perc"): first_then(0.5, 0.97), of("P", "kvlease:held_blocks"): always(90)},
    ),
    counts("KvleaseLateReads", "D", "fence_checks", verdict="revoked", at_once=True),
    counts("KvleaseLeasesLost", "D", "lost_leases", at_once=True),
    counts("KvleaseReadsFail", "D", "fence_checks", verdict="failed"),
    counts("KvleaseReferencesStale", "D", "fence_checks", verdict="no_fence"),
    counts("KvleaseUnfencedReads", "P", "unfenced_reads"),
    counts("KvleaseOtherPrompts", "D", "other_prompts", reason="content", at_once=True),
    trouble("KvleaseFenceReadsSlow", histogram("D", "fence_read_seconds", le_0_01=slowing(), le_5=growing(10))),
    trouble("KvleasePrefillsWasted", {of("D", "kvlease:wasted_prefill_tokens_total", reason="lost"): rising(500)}),
    counts("KvleaseTermTooShort", "P", "late_claims", outcome="in_time"),
    trouble(
        "KvleaseRenewalsLate",
        histogram("P", "renewal_remaining_seconds", le_1=rising(5), le_10=growing(6), le_20=growing(10)),
    ),
    trouble(
        "KvleaseAcknowledgementsSlow", histogram("D", "ack_round_trip_seconds", le_0_1=slowing(), le_5=growing(10))
    ),
    counts("KvleaseConsumersDie", "P", "crash_reclaims", at_once=True),
    counts("KvleaseLeasesExpire", "P", "lease_ends", cause="expired"),
    counts("KvleaseLeasesAgeOut", "P", "lease_ends", cause="aged_out"),
    counts("KvleaseOffersDeclined", "P", "declined_offers", reason="no_slot"),
    counts("KvleasePeersUnreachable", "D", "transport_failures", operation="connect"),
    counts("KvleaseRefused", "P", "refused", kind="hello_version"),
    trouble(
        "KvleaseRouterNoDecoder",
        {
            of_router("engines", role="decode", condition="up"): first_then(2, 0),
            of_router("engines", role="decode", condition="down"): first_then(0, 2),
        },
    ),
    trouble("KvleaseRouterFails", {of_router("refused_total", why="engine_failed"): rising()}),
    trouble("KvleaseRouterBreaksOff", {of_router("requests_total", endpoint="chat", outcome="broken_off"): rising()}),
    trouble("KvleaseRouterFull", {of_router("refused_total", why="queue_full"): rising()}),
    trouble("KvleaseRouterPrefillsTwice", {of_router("second_prefills_total", why="unfenced"): rising()}),
    calm(
        "one decode engine of two is away",
        {
            of_router("engines", role="decode", condition="up"): first_then(2, 1),
            of_router("engines", role="decode", condition="down"): first_then(0, 1),
        },
    ),
    calm(
        "a crash of P",
        {
            of("D", "kvlease:fence_checks_total", verdict="failed"): burst(),
            of("D", "kvlease:fence_checks_total", verdict="no_fence"): burst(),
            of("D", "kvlease:transport_failures_total", operation="connect"): burst(),
        },
    ),
    calm(
        "a crash of D",
        {
            of("P", "kvlease:crash_reclaims_total"): burst(),
            of("P", "kvlease:lease_ends_total", cause="orphaned"): burst(),
        },
        early="KvleaseConsumersDie",
    ),
    calm(
        "a drain",
        {
            of("P", "kvlease:draining"): first_then(0, 1),
            of("P", "kvlease:active_leases"): f"4x{QUIET_STEPS} 4-1x4 0x{TROUBLED_STEPS}",
            of("P", "kvlease:declined_offers_total", reason="draining"): rising(),
        },
    ),
    calm(
        "an extension of a second",
        histogram(
            "P", "renewal_remaining_seconds", le_0_7="0x160", le_1=growing(10), le_10=growing(10), le_20=growing(10)
        ),
    ),
    calm("a full cache of which nothing is held", {of("D", "vllm:kv_cache_usage_perc"): always(0.99)}),
)
