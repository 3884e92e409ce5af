"""The worlds that `make explore`, `make test` and `make check` explore, by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from kvlease.explore.scale import Bounds


@dataclass(frozen=True, slots=True)
class Chosen:
    """A world, and how it is explored."""

    bounds: Bounds
    what: str
    settle_every: int = 1
    """Of so many states, one is asked what becomes of it without faults."""


WORLDS: Mapping[str, Chosen] = {
    "tiny": Chosen(Bounds(beats=2, faults=0, sizes=(2,)), "one lease, no faults"),
    "fine": Chosen(
        Bounds(beats=1, faults=0, sizes=(2, 2), fine=True),
        "two leases after each other in the same blocks; every block, word and worker an action of its own",
    ),
    "fault": Chosen(Bounds(beats=2, faults=1, sizes=(2,)), "one lease, every single fault at every moment"),
    "reuse": Chosen(Bounds(beats=2, faults=1, sizes=(2, 2)), "two leases after each other, a fault", settle_every=10),
}
SETS: Mapping[str, tuple[str, ...]] = {
    "check": ("tiny",),
    "test": ("tiny", "fine"),
    "full": ("fine", "fault", "reuse"),
}
"""What is explored together."""
