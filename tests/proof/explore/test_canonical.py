"""Parts of the explored world that are taken for one have the same future."""

import pickle
from collections import deque
from dataclasses import dataclass, field

import pytest

from proof.explore.canonical import form
from proof.explore.scale import Bounds
from proof.explore.world import ExploredWorld
from proof.promises.safety import Violation
from tests.proof.explore.walks import careless, roam, unshared, walk_beside

BOUNDS = Bounds(ticks=3, faults=3, sizes=(2, 2))
ROAMED, WALKS, STEPS = 1000, 6, 40


@dataclass
class Thing:
    number: int = 0
    others: dict[str, int] = field(default_factory=dict)


class Slotted:
    __slots__ = ("late", "number")

    def __init__(self, number: int) -> None:
        self.number = number


def test_every_field_counts_without_being_named() -> None:
    assert form(Thing(1)) == form(Thing(1)) != form(Thing(2))
    assert form(Thing(others={"a": 1, "b": 2})) != form(Thing(others={"b": 2, "a": 1}))
    assert form(Slotted(1)) == form(Slotted(1)) != form(Slotted(2))
    one, other = Thing(), Thing()
    other.__dict__["news"] = 1
    assert form(one) != form(other)
    assert form({3, 1, 2}) == form({2, 3, 1}) != form({1, 2})
    assert form(deque([1])) != form([1])


def test_what_is_shared_is_not_what_is_equal() -> None:
    thing = Thing()
    assert form([thing, thing]) != form([Thing(), Thing()])


def test_an_object_whose_fields_cannot_be_seen_is_an_error() -> None:
    with pytest.raises(TypeError, match="cannot be compared"):
        form(object())


def test_a_copy_of_a_part_is_the_same_part() -> None:
    world = ExploredWorld(BOUNDS)
    state, parts = world.start(), 0
    while actions := world.actions(state):
        state = world.after(state, actions[0])
        for number in (state.books, state.agent, state.engine, *state.consumers):
            if number:
                part = world.parts.part(number)
                assert form(pickle.loads(pickle.dumps(part))) == form(part)
                parts += 1
    assert parts > 50


def test_parts_with_one_form_do_the_same() -> None:
    """Two worlds go the same way over many walks: one takes parts of one form for one part, the other never does."""
    shared = ExploredWorld(BOUNDS)
    roam(shared, ROAMED)
    for seed in range(WALKS):
        for one, other in walk_beside(shared, unshared(BOUNDS), seed, STEPS):
            assert one == other


@pytest.mark.sim
@pytest.mark.parametrize(
    ("owner", "left_out", "fault"),
    [("Wire", "reachable", "producer_suspects"), ("Task", "aborted", "abort"), ("Lessee", "_seq", "lose")],
)
def test_a_field_that_is_left_out_shows(owner: str, left_out: str, fault: str) -> None:
    bounds = Bounds(ticks=2, faults=1, sizes=(1,), kinds=(fault,))
    assert goes_astray(bounds, owner, left_out), f"nobody noticed that {owner}.{left_out} does not count"


def goes_astray(bounds: Bounds, owner: str, left_out: str) -> bool:
    """Tells whether a world that ignores this field goes another way than one that shares no parts, or fails."""
    shared = careless(bounds, owner, left_out)
    try:
        roam(shared, ROAMED)
        walks = (walk_beside(shared, unshared(bounds), seed, STEPS) for seed in range(50))
        return any(one != other for walk in walks for one, other in walk)
    except (Violation, LookupError, AssertionError):
        return True
