"""Walks through explored worlds, for tests of how the explorer recognises parts."""

import pickle
import random
from collections.abc import Iterator, Mapping
from itertools import islice

from proof.explore.canonical import form
from proof.explore.parts import Parts
from proof.explore.scale import Bounds
from proof.explore.state import State
from proof.explore.words import describe
from proof.explore.world import ExploredWorld


class UnsharedParts(Parts):
    """Parts of which no two are taken for one: each part is kept as its inputs made it."""

    def add(self, part: object) -> int:
        self._pickles.append(pickle.dumps(part, pickle.HIGHEST_PROTOCOL))
        return len(self._pickles) - 1


class CarelessParts(Parts):
    """Parts of which two are taken for one although a field differs. `left_out`: the ignored fields of each class."""

    left_out: Mapping[str, frozenset[str]]

    def add(self, part: object) -> int:
        key = form(part, self.left_out)
        if key not in self._numbers:
            self._numbers[key] = len(self._pickles)
            self._pickles.append(pickle.dumps(part, pickle.HIGHEST_PROTOCOL))
        return self._numbers[key]


def careless(bounds: Bounds, owner: str, left_out: str) -> ExploredWorld:
    """A world that does not look at one field of one class."""
    world = ExploredWorld(bounds)
    parts = CarelessParts()
    parts.left_out = {owner: frozenset({left_out})}
    world.parts.__class__ = CarelessParts
    world.parts.__dict__.update(parts.__dict__)
    return world


def unshared(bounds: Bounds) -> ExploredWorld:
    """A world that never recognises a part that it has seen before."""
    world = ExploredWorld(bounds)
    world.parts.__class__ = UnsharedParts
    return world


def states_of(world: ExploredWorld) -> Iterator[State]:
    """All states that the world can come to, breadth first."""
    seen = [world.start()]
    known = set(seen)
    yield from seen
    for state in seen:
        for action in world.actions(state):
            if (after := world.after(state, action)) not in known:
                known.add(after)
                seen.append(after)
                yield after


def roam(world: ExploredWorld, states: int) -> None:
    """Visits the first `states` states, so that the world has seen the parts that many ways lead to."""
    for _ in islice(states_of(world), states):
        pass


def forms(world: ExploredWorld, state: State) -> list[bytes]:
    """The normal form of every part."""
    numbers = (state.books, state.agent, state.engine, *state.consumers)
    return [form(world.parts.part(number)) for number in numbers if number]


def everything(world: ExploredWorld, state: State) -> tuple[object, ...]:
    """All that a state says, without the numbers of its parts, which mean nothing in another world."""
    return (
        state.tick,
        world.tables.outside[state.outside],
        world.tables.flying[state.flying],
        *forms(world, state),
        [describe(action) for action in world.actions(state)],
    )


def walk_beside(shared: ExploredWorld, alone: ExploredWorld, seed: int, steps: int) -> Iterator[tuple[object, object]]:
    """Takes the same random walk in two worlds, and yields both states after each action."""
    chance = random.Random(seed)
    one, other = shared.start(), alone.start()
    for _ in range(steps):
        actions = shared.actions(one)
        if not actions:
            return
        action = actions[chance.randrange(len(actions))]
        one, other = shared.after(one, action), alone.after(other, action)
        yield everything(shared, one), everything(alone, other)
