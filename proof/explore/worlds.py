"""The worlds that `make explore`, `make test` and `make check` explore, by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from proof.explore.scale import Bounds


@dataclass(frozen=True, slots=True)
class Chosen:
    """A world, and how it is explored."""

    bounds: Bounds
    what: str
    liveness_every: int = 1
    """The number of states of which one is played on without faults."""


_MISHAPS = (
    "vanish", "shut_down", "producer_suspects", "consumer_suspects", "restart", "abort", "abort_prefill",
)  # fmt: skip

WORLDS: Mapping[str, Chosen] = {
    "tiny": Chosen(Bounds(ticks=2, faults=0, sizes=(2,)), "one lease, no faults"),
    "calm": Chosen(
        Bounds(ticks=2, faults=0, sizes=(2, 2)), "two leases after each other in the same blocks, no faults", 4
    ),
    "fine": Chosen(
        Bounds(ticks=1, faults=0, sizes=(2, 2), fine=True),
        "the same, with every block, word, worker and part of a step an action of its own",
        4,
    ),
    "together": Chosen(Bounds(ticks=1, faults=0, sizes=(2, 1)), "two leases at a time, no faults", 10),
    "fault": Chosen(Bounds(ticks=1, faults=1, sizes=(1,)), "one lease, and one fault of any kind at any moment", 4),
    "expiry": Chosen(Bounds(ticks=2, faults=1, sizes=(2,)), "the same, for as long as the lease's term", 4),
    "reuse": Chosen(
        Bounds(ticks=1, faults=1, sizes=(2, 2)),
        "two leases after each other in the same blocks, and one fault of any kind at any moment",
        100,
    ),
    "letters": Chosen(
        Bounds(ticks=2, faults=1, sizes=(2, 2), kinds=("lose", "double", "hold", "crash")),
        "the same for as long as a lease's term, with one message lost, doubled or late, or a consumer killed",
        1000,
    ),
    "mishaps": Chosen(
        Bounds(ticks=2, faults=1, sizes=(2, 2), kinds=_MISHAPS),
        "the same with what else can go wrong once, but for engines that stand still, second consumers and mix-ups",
        1000,
    ),
}
SETS: Mapping[str, tuple[str, ...]] = {
    "check": ("tiny",),
    "short": ("tiny", "calm", "fine", "fault"),
    "full": ("calm", "fine", "together", "expiry", "reuse", "letters", "mishaps"),
}
"""The worlds that are explored together, by the name of the set."""
