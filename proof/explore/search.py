"""All states of a bounded world, breadth first, so that the way to a broken promise is the shortest there is."""

import resource
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from struct import Struct

from proof.explore.actions import Action
from proof.explore.liveness import LivenessChecks
from proof.explore.scale import Bounds
from proof.explore.state import State
from proof.explore.world import ExploredWorld
from proof.promises.safety import Violation

TELL_EVERY = 20_000
"""States between two calls of `tell`."""


@dataclass(slots=True)
class Found:
    """The findings of an exploration. `way` leads to the violation, with the numbers of `ExploredWorld.actions`."""

    bounds: Bounds
    states: int = 0
    transitions: int = 0
    depth: int = 0
    """The longest of the shortest ways to a state, in actions."""
    complete: bool = False
    """True where every state within the bounds was reached, and everything that can happen in it was tried."""
    violation: Violation | None = None
    way: list[Action] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    played_on: list[Action] = field(default_factory=list)
    """The actions that were played without faults after the way, where they are what broke the promise."""
    liveness_checks: int = 0
    """States that were played on without faults."""
    parts: int = 0
    computed: int = 0
    """Inputs of parts that the product's code worked out; all others were repetitions of these."""
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mib: float = 0.0
    taken: Counter[str] = field(default_factory=Counter)
    """Transitions by the name of their action."""
    events: Counter[str] = field(default_factory=Counter)
    """Transitions by what happened in them besides."""

    def missing(self, shown: Iterable[str]) -> list[str]:
        """Returns those of these actions and events that did not happen."""
        return [name for name in shown if not self.taken[name] and not self.events[name]]


@dataclass(slots=True)
class Limits:
    """The limits at which a search stops before its end."""

    cpu_s: float = float("inf")
    states: int = 1 << 62
    shown: tuple[str, ...] = ()
    """Actions and events; the search stops when all of them have happened, unless there are none."""


class Search:
    """One exploration; of `liveness_every` states, one is played on without faults (0: none)."""

    def __init__(
        self,
        bounds: Bounds,
        *,
        liveness_every: int = 1,
        limits: Limits | None = None,
        tell: Callable[[Found], None] = lambda _: None,
    ) -> None:
        self.found = Found(bounds)
        self._liveness_every = liveness_every
        self._limits = limits or Limits()
        self._tell = tell
        self._world = ExploredWorld(bounds)
        self._liveness = LivenessChecks(self._world)
        self._packing = Struct(f"<B{5 + 2 * bounds.consumers}I")
        self._seen: set[bytes] = set()
        self._parents = array("I")
        self._taken = array("H")
        """The number of the action that led to each state, in the order of finding; `_parents` has the state before."""
        self._began = time.monotonic()
        self._began_cpu = time.process_time()

    def run(self) -> Found:
        """Explore until the end, the limits or a violation."""
        frontier = [self._enter(self._world.start(), 0, 0)]
        first = 0
        while frontier and self.found.violation is None and not self._is_over():
            following: list[bytes] = []
            for offset, key in enumerate(frontier):
                if not self._expand(first + offset, self._unpack(key), following):
                    break
            first += len(frontier)
            self.found.depth += bool(following)
            frontier = following
        self.found.complete = not frontier and self.found.violation is None
        self._take_stock()
        return self.found

    def _expand(self, index: int, state: State, following: list[bytes]) -> bool:
        """Try all that can happen; False ends the search."""
        actions: list[Action] = []
        number = 0
        try:
            actions = self._world.actions(state)
            for number, action in enumerate(actions):
                self.found.transitions += 1
                self.found.taken[action[0]] += 1
                after = self._world.after(state, action)
                self.found.events.update(self._world.events)
                key = self._pack(after)
                if key not in self._seen:
                    following.append(self._enter(after, index, number))
        except Violation as violation:
            self.found.violation = violation
            self._tell_way(index, [number] if actions else [])
            return False
        return self._check_liveness(index, state)

    def _check_liveness(self, index: int, state: State) -> bool:
        if self._liveness_every and index % self._liveness_every == 0:
            try:
                self._liveness.ask_all(state)
            except Violation as violation:
                self.found.violation = violation
                self._tell_way(index, [])
                self.found.played_on = list(self._liveness.path)
                return False
        if index and index % TELL_EVERY == 0:
            self._take_stock()
            self._tell(self.found)
            return not self._is_over()
        return True

    def _enter(self, state: State, parent: int, number: int) -> bytes:
        key = self._pack(state)
        self._seen.add(key)
        self._parents.append(parent)
        self._taken.append(number)
        return key

    def _tell_way(self, index: int, last: list[int]) -> None:
        numbers = last
        while index:
            numbers = [self._taken[index], *numbers]
            index = self._parents[index]
        self.found.numbers = numbers
        self.found.way = list(way(self._world, numbers))

    def _is_over(self) -> bool:
        if self._limits.shown and not self.found.missing(self._limits.shown):
            return True
        return time.process_time() - self._began_cpu > self._limits.cpu_s or len(self._seen) > self._limits.states

    def _take_stock(self) -> None:
        self.found.states = len(self._seen)
        self.found.liveness_checks = self._liveness.asked
        self.found.parts, self.found.computed = len(self._world.parts), self._world.parts.computed
        self.found.seconds = time.monotonic() - self._began
        self.found.cpu_s = time.process_time() - self._began_cpu
        self.found.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def _pack(self, state: State) -> bytes:
        tick, *rest, consumers = state
        return self._packing.pack(tick, *chain(rest, consumers))

    def _unpack(self, key: bytes) -> State:
        tick, outside, flying, books, agent, engine, *consumers = self._packing.unpack(key)
        return State(tick, outside, flying, books, agent, engine, tuple(consumers))


def way(world: ExploredWorld, numbers: list[int]) -> list[Action]:
    """The actions with these numbers, from the start; the last one may break a promise."""
    state = world.start()
    taken: list[Action] = []
    for number in numbers:
        actions = world.actions(state)
        taken.append(actions[number])
        try:
            state = world.after(state, actions[number])
        except Violation:
            break
    return taken
