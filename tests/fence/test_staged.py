"""Reads of fence words are made ready while the data is on its way, which changes only their latency (S1)."""

from collections.abc import Iterator

import pytest

from kvlease.engine.reads import LeasedReads
from kvlease.fence import Verdict
from kvlease.protocol import Fingerprint, LeaseRef
from kvlease.testing.data_agent import FakeBackendError
from tests.fence.worlds import TOKEN, World


def states(world: World) -> list[str]:
    return [read.state for read in world.agent.reads]


@pytest.fixture
def world() -> Iterator[World]:
    world = World(capacity=4, instant=True)
    # A clock that stands still would let a verifier wait without end.
    world.clock.tick_s = 1e-5
    yield world
    assert all(read.releases == 1 for read in world.agent.reads), "every read that was made is given back once"


def test_s1_nothing_is_read_before_the_data_is_here(world: World) -> None:
    word = world.armed(1)
    world.verifier.stage("r", [word])
    assert states(world) == ["INIT"]
    world.table.clear(1)
    world.verifier.post("r", [word])
    assert states(world) == ["DONE"], "no second read was made"
    assert world.verifier.poll() == {"r": Verdict.REVOKED}, "what held when the read was made vouches for nothing"


def test_what_was_staged_is_posted(world: World) -> None:
    words = [world.armed(1), world.armed(2)]
    world.verifier.stage("r", words)
    world.verifier.post("r", words)
    assert world.verifier.poll() == {"r": Verdict.INTACT}
    assert len(world.agent.reads) == 2


def test_half_of_the_landing_words_are_left_for_what_has_arrived(world: World) -> None:
    words = [world.armed(n) for n in range(3)]
    world.verifier.stage("slow", words)
    assert states(world) == ["INIT", "INIT"]
    world.verifier.post("quick", words)
    assert world.verifier.poll() == {"quick": Verdict.INTACT}
    world.verifier.post("slow", words)
    assert world.verifier.poll() == {"slow": Verdict.INTACT}


def test_a_request_that_is_forgotten_leaves_nothing_staged(world: World) -> None:
    for n in range(9):
        world.verifier.stage(n, [world.armed(1), world.armed(2)])
        world.verifier.forget(n)
    assert states(world) == ["INIT"] * 18
    assert world.verifier.retained == 0


def test_staged_twice_is_staged_once(world: World) -> None:
    words = [world.armed(1)]
    for _ in range(9):
        world.verifier.stage("r", words)
    world.verifier.post("r", words)
    assert world.verifier.poll() == {"r": Verdict.INTACT}


def test_s1_other_words_than_were_staged_are_read_themselves(world: World) -> None:
    world.verifier.stage("r", [world.armed(1), world.armed(2)])
    cleared = world.armed(3)
    world.table.clear(3)
    world.verifier.post("r", [cleared])
    assert world.verifier.poll() == {"r": Verdict.REVOKED}


def test_what_cannot_be_staged_is_left_to_the_post(world: World) -> None:
    words = [world.armed(1)]
    world.agent.refuse = FakeBackendError()
    world.verifier.stage("r", words)
    world.agent.refuse = None
    world.verifier.post("r", words)
    assert world.verifier.poll() == {"r": Verdict.INTACT}


def test_closing_gives_back_what_was_staged(world: World) -> None:
    world.verifier.stage("r", [world.armed(1)])
    world.verifier.close()
    assert len(world.agent.registered) == 1, "the table; the landing place is withdrawn"


def test_a_request_that_is_reported_leaves_no_read_behind(world: World) -> None:
    """R12: a request that is reported leaves no read behind, whether its fence was made ready or is being read."""
    reads = LeasedReads(world.verifier)
    refs = {name: LeaseRef(1, TOKEN, 1, 1000, Fingerprint(1, 0)) for name in ("never came", "being read")}
    reads.begin(refs)
    for name in refs:
        reads.admit(name, [world.armed(1)])
        reads.stage(name)
    reads.forget("never came")
    world.agent.instant = False
    assert reads.verify(["being read"]) == {}
    reads.forget("being read")
    world.agent.reads[-1].finish()
    reads.verify([])
    assert not reads.checking
