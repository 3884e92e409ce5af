"""The checks on an engine that runs, by its metrics and its health."""

import math
from collections.abc import Iterator

from kvlease.console.numbers import count, seconds
from kvlease.doctor.findings import Check, Symptom, error, warning
from kvlease.doctor.running import RunningEngine
from kvlease.metrics.advice import Observed, TermAdvice, advise
from kvlease.metrics.catalogue import METRICS

STEPS = "vllm:inter_token_latency_seconds"
"""vLLM's histogram of the time between two tokens of a request: no step of a decode engine is longer than the next."""
LISTENER = "set kv_lease_listen, for the agent's own listener (docs/operate/admin.md)"
_SINCE = "since the engine started"


@error("unreachable", "A URL at which nobody answers", "Nothing can be said about this engine.")
def unreachable(engine: RunningEngine) -> Iterator[Symptom]:
    if engine.unreachable is not None:
        yield Symptom(engine.unreachable, "give the URL of vLLM's API server, such as http://prefill-0:8000")


@error(
    "no-metrics",
    "An engine without kvlease's metrics",
    "Nobody sees its leases: it runs another connector, or vLLM's Rust front end, which hides them.",
)
def no_metrics(engine: RunningEngine) -> Iterator[Symptom]:
    if engine.unreachable is None and (engine.page is None or not engine.page.engines()):
        what = "no /metrics page" if engine.page is None else "no metric on /metrics begins with kvlease:"
        yield Symptom(what, f"unset VLLM_USE_RUST_FRONTEND, or {LISTENER}; see that its connector is kvlease's")


@warning(
    "no-admin",
    "An engine that does not serve /v1/kvlease",
    "It cannot be drained before it is stopped, and its leases and settings cannot be seen.",
)
def no_admin(engine: RunningEngine) -> Iterator[Symptom]:
    if engine.unreachable is None and not engine.health:
        yield Symptom(
            engine.no_health,
            f"name kvlease and the other plugins in VLLM_PLUGINS, or {LISTENER}; with a key set VLLM_API_KEY",
        )


@error(
    "agent-down",
    "A lease agent that has died",
    "The engine grants no leases any more, and renews none: prompts are computed twice.",
)
def agent_down(engine: RunningEngine) -> Iterator[Symptom]:
    change = "report the traceback in its log, and restart it"
    if any(health.agent == "dead" for health in engine.health):
        yield Symptom("its health says that the agent is dead", change)
    elif engine.page is not None and not engine.health:
        for rank in engine.page.engines():
            if engine.page.of_engine(rank).agent() == "dead":
                yield Symptom(f"kvlease:agent_up is 0 (engine {rank or 0})", change)


@warning("draining", "An engine that is draining", "It grants no new leases: decode engines compute its prompts again.")
def draining(engine: RunningEngine) -> Iterator[Symptom]:
    if engine.value("draining") > 0 or any(health.draining for health in engine.health):
        yield Symptom("kvlease:draining is 1", f"if it shall go on: curl -X DELETE {engine.url}/v1/kvlease/drain")


@warning(
    "unfenced-reads",
    "Reads without a fence",
    "They have stock's guarantees: one that comes late is answered wrongly, and nobody is told.",
)
def unfenced_reads(engine: RunningEngine) -> Iterator[Symptom]:
    if number := engine.value("unfenced_reads_total"):
        yield Symptom(
            f"kvlease:unfenced_reads_total {count(number)} {_SINCE}",
            "run kvlease on all decode engines, and have the router pass kv_transfer_params on with kv_lease; "
            "`kvlease doctor --router URL` tells whether it does",
        )


@warning(
    "late-reads",
    "Reads and claims that came when their lease was over",
    "Each was computed a second time, or failed: the term is too short, or decode engines stall.",
)
def late_reads(engine: RunningEngine) -> Iterator[Symptom]:
    found = {
        'fence_checks_total{verdict="revoked"}': engine.value("fence_checks_total", verdict="revoked"),
        "lost_leases_total": engine.value("lost_leases_total"),
        'late_claims_total{outcome="too_late"}': engine.value("late_claims_total", outcome="too_late"),
    }
    if said := ", ".join(f"kvlease:{name} {count(number)}" for name, number in found.items() if number):
        yield Symptom(f"{said} {_SINCE}", "a longer kv_lease_duration on prefill engines; the advice below says which")


@warning(
    "wasted-prefills",
    "Prefills that were not used",
    "Prefill engines computed these tokens, and decode engines had to compute them again, or failed their requests.",
)
def wasted_prefills(engine: RunningEngine) -> Iterator[Symptom]:
    yield from _counted(
        engine,
        "wasted_prefill_tokens",
        "docs/operate/observe.md says what each reason is: lost and revoked are terms that are too short",
    )


@warning(
    "unheard-consumers",
    "Leases held for decode engines that are dead or silent",
    "Their blocks are kept from others until the grace or the extension is over.",
)
def unheard_consumers(engine: RunningEngine) -> Iterator[Symptom]:
    if found := engine.by_label("unheard_leases"):
        yield Symptom(
            f"kvlease:unheard_leases {_by_value(found)}",
            "see GET /v1/kvlease/sessions for which engines; leave kv_lease_orphan_grace out if nobody takes over",
        )


@warning(
    "transport-failures",
    "Messages or connections that failed between lease agents",
    "An agent that cannot reach another one renews nothing there; after crashes and restarts some are usual.",
)
def transport_failures(engine: RunningEngine) -> Iterator[Symptom]:
    yield from _counted(
        engine,
        "transport_failures",
        "if it rises: see that engines reach each other's side channel and NIXL's ports, both ways",
    )


@warning(
    "refused-messages",
    "Messages or references that were refused",
    "Somebody who should not talks to these engines, a router changes kv_lease, or versions differ.",
)
def refused_messages(engine: RunningEngine) -> Iterator[Symptom]:
    yield from _counted(
        engine,
        "refused",
        "pass kv_transfer_params on untouched, and prefill with max_tokens 1 (docs/operate/troubleshoot.md)",
    )


@warning(
    "declined-offers",
    "Prefills that were not offered for want of a lease",
    "Decode engines compute these prompts again.",
)
def declined_offers(engine: RunningEngine) -> Iterator[Symptom]:
    yield from _counted(
        engine,
        "declined_offers",
        "no_slot: leave kv_lease_fence_slots out; no_agent, no_producer: restart the engine, and report its log",
    )


@warning(
    "other-prompts",
    "Hand-offs that reached another prompt than they were made for",
    "Prefill and decode engines are not given the same prompt, so that it is computed twice.",
)
def other_prompts(engine: RunningEngine) -> Iterator[Symptom]:
    yield from _counted(
        engine,
        "other_prompts",
        "the same chat template, adapter names and salt on both sides; media: kv_lease_compare_media",
    )


@warning(
    "long-steps",
    "Steps of a decode engine that come near its kv_lease_stall_limit",
    "An engine whose step is longer stops renewing, and its waiting requests lose their leases.",
)
def long_steps(engine: RunningEngine) -> Iterator[Symptom]:
    longest = longest_at_least(engine, STEPS)
    limits = [health.settings.stall_limit_s for health in engine.health]
    if engine.consumes and longest is not None and limits and longest > min(limits) / 2:
        yield Symptom(
            f"a step of over {seconds(longest)} ({STEPS}); kv_lease_stall_limit is {min(limits):g}",
            f'write "kv_lease_stall_limit": {math.ceil(4 * longest)} on decode engines',
        )


@warning(
    "late-agent",
    "A lease agent that was late by more than the interval of renewals",
    "It shares its processor with something that does not let go; leases expire that others still want.",
)
def late_agent(engine: RunningEngine) -> Iterator[Symptom]:
    longest = longest_at_least(engine, "kvlease:agent_lag_seconds")
    intervals = [health.settings.renew_interval_s for health in engine.health]
    if longest is not None and intervals and longest >= min(intervals):
        yield Symptom(
            f"kvlease:agent_lag_seconds above {seconds(longest)}; kv_lease_renew_interval is {min(intervals):g}",
            "give the engine's scheduler a processor core of its own; or a longer kv_lease_duration on prefill engines",
        )


@warning(
    "term-too-short",
    "A kv_lease_duration that loses more than one lease in a million, by the waits of this engine",
    "Leases end before anybody claims them, or between two renewals, and their prompts are computed twice.",
)
def term_too_short(engine: RunningEngine) -> Iterator[Symptom]:
    advice = term_advice(engine)
    if advice is None or not advice.is_too_short:
        return
    best = advice.longer
    at_least = "a longer kv_lease_duration on prefill engines"
    yield Symptom(
        " ".join(advice.sentences()),
        f'write "kv_lease_duration": {best.seconds:g} on prefill engines' if best is not None else at_least,
    )


def term_advice(engine: RunningEngine) -> TermAdvice | None:
    """Returns the advice on the term; None for an engine that has no waits to judge by."""
    waits = None if engine.page is None else engine.page.histogram("kvlease:claim_wait_seconds")
    if engine.page is None or waits is None or waits.count == 0:
        return None
    settings = engine.health[0].settings if engine.health else None
    return advise(
        Observed(
            claim_wait=waits,
            renewal_remaining=engine.page.histogram("kvlease:renewal_remaining_seconds"),
            too_late=round(engine.value("late_claims_total", outcome="too_late")),
            duration_s=settings.duration_s if settings else None,
            extension_s=settings.extension_s if settings else None,
            renew_interval_s=settings.renew_interval_s if settings else None,
        )
    )


def longest_at_least(engine: RunningEngine, name: str) -> float | None:
    """Returns a time that the longest value of a histogram exceeded: the lower bound of its last bucket that counts."""
    found = None if engine.page is None else engine.page.histogram(name)
    if found is None or found.count == 0:
        return None
    below = [bound for bound, n in zip(found.bounds, found.cumulative, strict=True) if n < found.count]
    return below[-1] if below else 0.0


def _counted(engine: RunningEngine, name: str, change: str) -> Iterator[Symptom]:
    """Yields the counts of a counter by its label, if it has counted anything."""
    if found := engine.by_label(name):
        yield Symptom(f"{METRICS[name].shown} {_by_value(found)} {_SINCE}", change)


def _by_value(found: dict[str, float]) -> str:
    return ", ".join(f"{key} {count(number)}" for key, number in sorted(found.items()))


CHECKS: tuple[Check[RunningEngine], ...] = (
    unreachable,
    no_metrics,
    no_admin,
    agent_down,
    draining,
    unfenced_reads,
    late_reads,
    wasted_prefills,
    unheard_consumers,
    transport_failures,
    refused_messages,
    declined_offers,
    other_prompts,
    long_steps,
    late_agent,
    term_too_short,
)
