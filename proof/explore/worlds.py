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
    shows: tuple[str, ...] = ()
    """Actions, and events of actions, that have to happen somewhere in the world."""


LATE = ("revived", "revived in time", "revived too late", "a late read intact", "a late read revoked")
GIVEN = "a lapsed block given"
_MISHAPS = (
    "vanish", "shut_down", "producer_suspects", "consumer_suspects", "restart", "abort", "abort_prefill",
)  # fmt: skip

WORLDS: Mapping[str, Chosen] = {
    "tiny": Chosen(Bounds(ticks=2, faults=0, sizes=(2,)), "one lease, no faults"),
    "calm": Chosen(
        Bounds(ticks=2, faults=0, sizes=(2, 2)),
        "two leases after each other in the same blocks, no faults",
        4,
        (*LATE, GIVEN),
    ),
    "fine": Chosen(
        Bounds(ticks=2, faults=0, sizes=(2, 2), consumers=1, fine=True),
        "the same for one consumer, with every block, word, worker and part of a step an action of its own",
        4,
        (GIVEN, "hear", "a late read revoked"),
    ),
    "orders": Chosen(
        Bounds(ticks=2, faults=0, sizes=(2, 2), by_order=True),
        "the same, with fence words that the workers write by order",
        4,
        ("part", "revived too late", "a late read revoked"),
    ),
    "alike": Chosen(
        Bounds(ticks=1, faults=0, sizes=(2, 2), consumers=1, alike=2, any_order=True),
        "two prompts that begin with the same block; the pool's order is turned round at will",
        4,
        ("a leased block shared", GIVEN),
    ),
    "unread": Chosen(
        Bounds(
            ticks=2,
            faults=1,
            sizes=(2, 2, 1),
            blocks=4,
            slots=3,
            consumers=0,
            kinds=("reset",),
            alike=2,
            any_order=True,
        ),
        "the same, unread, and a third that takes any block of them",
        1,
        ("a leased block shared", GIVEN, "reset"),
    ),
    "slots": Chosen(
        Bounds(ticks=2, faults=0, sizes=(1, 1), slots=1, consumers=1),
        "two leases of which the second needs the slot of the first, once that has lapsed",
        10,
        ("a lapsed lease's slot taken", "a late read intact", "a late read revoked"),
    ),
    "together": Chosen(Bounds(ticks=1, faults=0, sizes=(2, 1)), "two leases at a time, no faults", 10),
    "fault": Chosen(
        Bounds(ticks=1, faults=1, sizes=(1,)),
        "one lease, and one fault of any kind at any moment",
        4,
        ("reset", "revived in time"),
    ),
    "revoked": Chosen(
        Bounds(ticks=2, faults=1, sizes=(2, 2), consumers=1, kinds=("revoke",)),
        "two leases after each other in the same blocks, of which an operator ends one at any moment",
        10,
        ("revoke", "lapsed: revoked", GIVEN, "a late read revoked"),
    ),
    "expiry": Chosen(Bounds(ticks=2, faults=1, sizes=(2,)), "the same, for as long as the lease's term", 4),
    "reuse": Chosen(
        Bounds(ticks=1, faults=1, sizes=(2, 2)),
        "two leases after each other in the same blocks, and one fault of any kind at any moment",
        100,
        (*LATE, GIVEN, "reset"),
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
    "short": ("tiny", "calm", "fine", "orders", "unread", "fault", "revoked"),
    "full": (
        "calm",
        "fine",
        "orders",
        "alike",
        "unread",
        "slots",
        "together",
        "revoked",
        "expiry",
        "reuse",
        "letters",
        "mishaps",
    ),
}
"""The worlds that are explored together, by the name of the set."""
