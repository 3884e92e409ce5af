"""The explorer sees all that can happen, and loses nothing by taking states together."""

from unittest.mock import patch

import pytest

from kvlease.fence.table import FenceTable
from kvlease.protocol.effects import Lapse
from proof.explore import actions
from proof.explore.actions import FAULTS
from proof.explore.canonical import form
from proof.explore.draft import CONSUMERS, DraftState
from proof.explore.scale import Bounds
from proof.explore.search import Limits, Search, way
from proof.explore.state import State
from proof.explore.world import ExploredWorld
from proof.explore.worlds import GIVEN, LATE, SETS, WORLDS
from tests.proof.explore.walks import states_of

pytestmark = pytest.mark.long

SMALL = Bounds(ticks=1, faults=0, sizes=(2,))


def test_a_tiny_world_keeps_every_promise() -> None:
    found = Search(WORLDS["tiny"].bounds).run()
    assert found.violation is None
    assert found.complete
    assert found.liveness_checks == found.states > 300
    assert found.transitions > found.states


def test_the_same_world_has_the_same_states() -> None:
    one, other = Search(SMALL).run(), Search(SMALL).run()
    assert (one.states, one.transitions, one.depth) == (other.states, other.transitions, other.depth)


def test_an_exploration_that_is_cut_off_says_so() -> None:
    found = Search(WORLDS["fault"].bounds, limits=Limits(states=50)).run()
    assert not found.complete
    assert found.violation is None


@pytest.mark.sim
@pytest.mark.parametrize("name", SETS["short"])
def test_a_world_keeps_every_promise(name: str) -> None:
    world = WORLDS[name]
    found = Search(world.bounds, liveness_every=world.liveness_every).run()
    assert found.violation is None, found.way
    assert found.complete


@pytest.mark.sim
@pytest.mark.parametrize("name", [name for name, world in WORLDS.items() if world.shows])
def test_a_world_shows_what_it_is_there_for(name: str) -> None:
    """A world in which something never happens says nothing about it."""
    world = WORLDS[name]
    limits = Limits(states=60_000, shown=world.shows)
    found = Search(world.bounds, liveness_every=0, limits=limits).run()
    assert found.missing(world.shows) == []


def test_every_fault_and_every_turn_of_a_lapsed_lease_is_shown() -> None:
    shown = {name for world in WORLDS.values() for name in world.shows}
    assert {
        *LATE,
        GIVEN,
        "hear",
        "reset",
        "revoke",
        "part",
        "a lapsed lease's slot taken",
        "a leased block shared",
    } <= shown
    kinds = {kind for name in SETS["full"] for kind in WORLDS[name].bounds.kinds or FAULTS}
    assert kinds == set(FAULTS)


def test_what_never_happens_is_missed() -> None:
    found = Search(SMALL, liveness_every=0).run()
    assert found.missing(("hand", "a read intact")) == []
    assert found.missing(("hand", "reset", "revived too late")) == ["reset", "revived too late"]


def at_rest(world: ExploredWorld, state: State) -> tuple[object, ...] | None:
    """The observable parts of a state in which no step and no read is half done, and no lapse waits to be heard; None
    for other states."""
    draft = world.draft(state)
    step = world.views.stepping(state.engine)
    requests = [world.views.requests(engine) for engine in state.consumers[1::2]]
    news = world.views.part(state.agent).core.snapshot().news
    if any(isinstance(effect, Lapse) for effect in news):
        return None
    if step.next or any(r.begun or r.stage == "fencing" for those in requests for r in those):
        return None
    agents = [form(world.parts.part(number)) for number in (state.agent, *state.consumers[::2])]
    causes = tuple(world.views.settled(state.books).causes.items())
    return (state.tick, draft.outside, tuple(draft.flying), step, *agents, *requests, causes)


@pytest.mark.sim
def test_fine_steps_lead_to_the_same_states_at_rest() -> None:
    found = []
    for fine in (False, True):
        world = ExploredWorld(Bounds(ticks=1, faults=0, sizes=(2,), fine=fine))
        states = list(states_of(world))
        found.append((len(states), {rest for state in states if (rest := at_rest(world, state))}))
    (few, together), (many, apart) = found
    assert few < many
    assert together == apart


def nameless(world: ExploredWorld, state: State) -> tuple[object, ...]:
    """The observable parts of a state, without saying which consumer is which."""
    draft = world.draft(state)
    held = world.views.granted(state.agent)
    consumers = sorted(
        (
            d in draft.outside.dead,
            world.views.requests(draft.consumers[2 * d + 1]) if draft.consumers[2 * d + 1] else (),
            sorted(claims for consumer, _, claims in held.sessions if consumer == CONSUMERS[d]),
            sum(item.to == CONSUMERS[d] for item in draft.flying),
        )
        for d in range(world.bounds.consumers)
    )
    return state.tick, str(consumers), held.live, world.views.stepping(state.engine), draft.outside.faults


@pytest.mark.sim
def test_consumers_are_alike_but_for_their_names() -> None:
    bounds = Bounds(ticks=1, faults=1, sizes=(1,), kinds=("crash",))
    told_apart = ExploredWorld(bounds)
    with patch.object(actions, "_told_apart", lambda draft: draft.living):
        everything = {nameless(told_apart, state) for state in states_of(told_apart)}
    reduced = ExploredWorld(bounds)
    states = list(states_of(reduced))
    assert {nameless(reduced, state) for state in states} == everything


def test_the_same_way_leads_to_the_same_place() -> None:
    world, other = ExploredWorld(SMALL), ExploredWorld(SMALL)
    numbers = [0] * 8
    assert way(world, numbers) == way(other, numbers)


def test_words_of_the_world_are_kept_by_the_rules_of_the_product() -> None:
    world = ExploredWorld(SMALL)
    engine = world.parts.part(world.start().engine)
    tables = [worker.table for worker in engine.workers]
    assert all(isinstance(table, FenceTable) for table in tables)
    tables[0].arm(0, 7)
    with pytest.raises(RuntimeError, match="cannot be armed"):
        tables[0].arm(0, 8)


def test_a_moment_is_made_into_the_state_that_it_was_made_from() -> None:
    world = ExploredWorld(SMALL)
    for state in states_of(world):
        draft: DraftState = world.draft(state)
        assert draft.state() == state
