"""Ways to hold blocks, to be played side by side under the same traffic and the same faults."""

from kvlease.fleet.leasing import Policy
from kvlease.fleet.policies.flat import Flat
from kvlease.fleet.policies.kvlease import Kvlease
from kvlease.fleet.policies.stock import Stock

__all__ = ["Flat", "Kvlease", "Policy", "Stock", "side_by_side"]


def side_by_side() -> tuple[Policy, ...]:
    """Returns vLLM's former flat term, a short one, vLLM's lease, and kvlease, each with its defaults."""
    return (Flat(480.0), Flat(30.0), Stock(30), Kvlease())
