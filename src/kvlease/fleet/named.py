"""Policies by the names that a command line knows."""

from typing import TYPE_CHECKING

from kvlease.errors import ConfigError
from kvlease.protocol.config import DEFAULT_DURATION_S

if TYPE_CHECKING:
    from kvlease.fleet.policies import Policy

USUAL = ("flat-480", "flat-30", "stock", "kvlease")
"""The policies that are compared by default: vLLM's former flat timeouts, long and short, its lease, and kvlease."""
EXAMPLES = "flat-60, stock-10 or kvlease-10"
_KINDS = ("flat", "stock", "kvlease")


def policy_named(name: str) -> "Policy":
    """Returns `flat-SECONDS`, `stock`, `stock-SECONDS`, `kvlease` or `kvlease-SECONDS`. Raises `ConfigError`."""
    # Imported late: these import the whole simulation, and a command line that asks for help needs the names only.
    from kvlease.fleet.policies import Flat, Kvlease, Stock

    kind, dash, text = name.partition("-")
    if kind not in _KINDS or (kind == "flat" and not dash):
        raise ConfigError(f"{name!r} is no policy: give {', '.join(USUAL)}, or one with other seconds: {EXAMPLES}")
    term_s = _seconds(name, text) if dash else DEFAULT_DURATION_S
    if kind == "flat":
        return Flat(term_s)
    if kind == "stock":
        return Stock(_whole(name, term_s))
    return Kvlease({"kv_lease_duration": term_s})


def _seconds(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{text!r} in {name!r} is no number of seconds; give, for example, {EXAMPLES}") from None


def _whole(name: str, seconds: float) -> int:
    """Returns the whole seconds that vLLM's lease is to last. Raises `ConfigError`."""
    if not seconds.is_integer():
        raise ConfigError(f"{name!r}: vLLM's lease lasts whole seconds; give, for example, stock-30")
    return int(seconds)
