"""An engine's figures, from its /metrics page and, where it serves the routes, from its health.

The health is asked at this moment; metrics travel with engine steps, so those of an idle engine are older. Where both
tell a figure, the health's is taken.
"""

from collections.abc import Iterator
from typing import Any

from kvlease.admin.answers import EngineHealth, Health, Holding
from kvlease.metrics.scraped import Metrics
from kvlease.top.document import EngineNow

READ = ("kvlease:", "vllm:kv_cache_usage_perc")
"""The beginnings of the metrics that are read; vLLM's page has a thousand more lines."""
GAUGES = (
    "active_leases",
    "claimed_leases",
    "held_tokens",
    "held_blocks",
    "held_bytes",
    "lapsed_leases",
    "lapsed_tokens",
    "lapsed_blocks",
    "lapsed_bytes",
)
LABELLED_GAUGES = {
    "unheard_leases": "consumer",
    "unheard_tokens": "consumer",
    "unheard_blocks": "consumer",
    "unheard_bytes": "consumer",
    "sessions": "role",
}
COUNTERS = ("grants", "lost_leases")
LABELLED_COUNTERS = {"lease_ends": "cause", "fence_checks": "verdict", "wasted_prefill_tokens": "reason"}


def engines_now(url: str, page: Metrics, health: Health | None, note: str | None) -> list[EngineNow]:
    """Returns the engines behind a URL; none where neither knows any. `note`: the reason why there is no health."""
    told = {engine.rank: engine for engine in health.engines} if health else {}
    pages = {int(rank) if rank.isdigit() else 0: page.of_engine(rank) for rank in page.engines()}
    return [
        _engine(
            pages.get(rank, Metrics(())),
            told.get(rank),
            {"url": url, "rank": rank, "answers": True, "admin": rank in told, "note": note},
        )
        for rank in sorted(told.keys() | pages.keys())
    ]


def _engine(page: Metrics, health: EngineHealth | None, known: dict[str, Any]) -> EngineNow:
    figures = {**known, **dict(_from_page(page)), **(dict(_from_health(health)) if health else {})}
    return EngineNow(**figures, role=_role(page, figures))


def _from_page(page: Metrics) -> Iterator[tuple[str, Any]]:
    for name in GAUGES:
        yield name, int(page.value(f"kvlease:{name}")) if page.has(f"kvlease:{name}") else None
    for name, label in LABELLED_GAUGES.items():
        yield name, _labelled(page, f"kvlease:{name}", label) or None
    for name in COUNTERS:
        yield name, int(page.value(f"kvlease:{name}_total")) if page.has(f"kvlease:{name}_total") else None
    if page.samples:
        # Some of these have no sample until they count for the first time.
        for name, label in LABELLED_COUNTERS.items():
            yield name, _labelled(page, f"kvlease:{name}_total", label)
    yield "agent", page.agent()
    if page.has("kvlease:draining"):
        yield "draining", bool(page.value("kvlease:draining"))
    if page.has("vllm:kv_cache_usage_perc"):
        yield "kv_cache_usage", page.value("vllm:kv_cache_usage_perc")
    for sample in page.samples:
        if "model_name" in sample.labels:
            yield "model", sample.labels["model_name"]
            return


def _from_health(health: EngineHealth) -> Iterator[tuple[str, Any]]:
    for name in ("engine_id", "incarnation", "version", "agent", "draining", "uptime_s", "pool_blocks"):
        yield name, getattr(health, name)
    yield "active_leases", health.held.leases
    yield "claimed_leases", health.held.claimed
    yield "lapsed_leases", health.lapsed.leases
    dead, silent = health.unheard.dead, health.unheard.silent
    yield "unheard_leases", {"dead": dead.leases, "silent": silent.leases}
    for unit in ("tokens", "blocks", "bytes"):
        yield f"held_{unit}", _of(health.held, unit)
        yield f"lapsed_{unit}", _of(health.lapsed, unit)
        yield f"unheard_{unit}", {"dead": _of(dead, unit), "silent": _of(silent, unit)}
    yield "sessions", {"consumers": health.sessions.consumers, "producers": health.sessions.producers}


def _of(holding: Holding, unit: str) -> int:
    return int(getattr(holding, unit))


def _role(page: Metrics, figures: dict[str, Any]) -> str | None:
    """The role that an engine has, told by what it holds and has done: a page does not say it."""
    sessions = figures.get("sessions") or {}
    grants = figures.get("grants") or figures.get("active_leases") or sessions.get("consumers")
    reads = any((figures.get("fence_checks") or {}).values()) or sessions.get("producers")
    renewals = page.by_label("kvlease:renewals_total", "direction")
    produces, consumes = grants or renewals.get("received"), reads or renewals.get("sent")
    if produces and consumes:
        return "both"
    return "producer" if produces else "consumer" if consumes else None


def _labelled(page: Metrics, name: str, label: str) -> dict[str, int]:
    """The figures of a metric by its label, with those that are 0: a script can rely on what is there."""
    values = {sample.labels[label] for sample in page.samples if sample.name == name and label in sample.labels}
    return {value: int(page.value(name, **{label: value})) for value in sorted(values)}
