"""Every series that a query may ask for, with its labels and their values."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from kvlease.protocol import Cause
from kvlease.vllm.catalogue import COUNTERS, GAUGES, VALUES
from proof.monitoring.rules import recordings

_KINDS = frozenset(("hello", "welcome", "renew", "ack", "gone", "probe", "bye"))
_UNHEARD = frozenset(("dead", "silent"))
_ANY: frozenset[str] = frozenset()

OF_TARGETS = {"job": _ANY, "instance": _ANY}
"""The labels that Prometheus adds to whatever it scrapes."""
OF_ENGINES = {"model_name": _ANY, "engine": _ANY}
"""The labels that vLLM gives all of its metrics."""

AWAITED_GAUGES: dict[str, tuple[str, frozenset[str]]] = {
    **dict.fromkeys(("claimed_leases", "held_tokens", "held_bytes", "lapsed_tokens", "lapsed_bytes"), ("", _ANY)),
    **{f"unheard_{what}": ("consumer", _UNHEARD) for what in ("leases", "tokens", "blocks", "bytes")},
    "draining": ("", _ANY),
}
AWAITED_COUNTERS: dict[str, tuple[str, frozenset[str]]] = {
    "wasted_prefill_tokens": ("reason", frozenset(("lost", "revoked", "failed", "no_fence"))),
    "saved_prefill_tokens": ("", _ANY),
    **{f"{what}_{way}": ("kind", _KINDS) for what in ("messages", "message_bytes") for way in ("sent", "received")},
}
AWAITED_VALUES = {"declined_offers": frozenset(("draining",)), "lease_ends": frozenset(("revoked",))}
HISTOGRAMS = (
    "claim_wait_seconds",
    "claim_to_release_seconds",
    "lease_age_seconds",
    "renewal_remaining_seconds",
    "ack_round_trip_seconds",
    "fence_read_seconds",
    "agent_lag_seconds",
)
VLLM = ("kv_cache_usage_perc", "num_requests_waiting", "prompt_tokens_total")
"""The metrics of vLLM's own that the queries use."""


@dataclass(frozen=True)
class Series:
    """A series' labels, and the values of each; none where any will do."""

    labels: Mapping[str, Set[str]]


def known() -> dict[str, Series]:
    """Returns every series by its name."""
    found = {"ALERTS": Series({"alertname": _ANY, "alertstate": frozenset(("pending", "firing"))})}
    found |= {f"vllm:{name}": _of_an_engine("", _ANY) for name in VLLM}
    for name, (label, values) in _gauges().items():
        found[f"kvlease:{name}"] = _of_an_engine(label, values)
    for name, (label, values) in _counters().items():
        found[f"kvlease:{name}_total"] = _of_an_engine(label, values)
    for name in HISTOGRAMS:
        found[f"kvlease:{name}_bucket"] = _of_an_engine("le", _ANY)
        found |= {f"kvlease:{name}_{part}": _of_an_engine("", _ANY) for part in ("sum", "count")}
    for rule in recordings():
        # Those of a level "engine" keep the labels of their engine; the others are of all engines.
        found[rule.name] = Series(OF_TARGETS | OF_ENGINES if rule.name.startswith("engine:") else {})
    return found


def _of_an_engine(label: str, values: Set[str]) -> Series:
    return Series(OF_TARGETS | OF_ENGINES | ({label: values} if label else {}))


def _gauges() -> dict[str, tuple[str, Set[str]]]:
    return AWAITED_GAUGES | {name: (label, _values(name)) for name, (label, _) in GAUGES.items()}


def _counters() -> dict[str, tuple[str, Set[str]]]:
    return AWAITED_COUNTERS | {name: (label, _values(name)) for name, (label, _) in COUNTERS.items()}


def _values(name: str) -> Set[str]:
    named = {str(cause) for cause in Cause} if name == "lease_ends" else set(VALUES.get(name, ()))
    return named | AWAITED_VALUES.get(name, _ANY)
