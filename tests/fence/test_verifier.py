"""The consumer's side of the fence (S1): only a word that was read, and equals the token, makes data good."""

import ctypes
from collections.abc import Iterator

import pytest

from kvlease.fence import FenceVerifier, RegisteredWords, Verdict
from kvlease.testing.data_agent import FAKE_ERRORS, FakeBackendError, FakeDisconnectError
from tests.fence.worlds import TOKEN, World


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    # After each test, every read that has ended was released once, and no other one was.
    for read in world.agent.reads:
        assert read.releases == (1 if read.state == "DONE" or read.error else 0)


def test_an_armed_word_is_intact_once_it_has_been_read(world: World) -> None:
    world.verifier.post("r", [world.armed(1)])
    assert world.verifier.poll() == {}
    world.agent.reads[0].finish()
    assert world.verifier.poll() == {"r": Verdict.INTACT}
    assert world.verifier.poll() == {}


def test_a_read_that_ends_as_it_is_posted_needs_no_second_look(world: World) -> None:
    world.agent.instant = True
    world.verifier.post("r", [world.armed(1)])
    assert world.verifier.poll() == {"r": Verdict.INTACT}


@pytest.mark.parametrize("now_in_slot", [None, 1, TOKEN ^ 1 << 63])
def test_a_cleared_or_reused_slot_is_revoked(world: World, now_in_slot: int | None) -> None:
    word = world.armed(1)
    world.table.clear(1)
    if now_in_slot is not None:
        world.table.arm(1, now_in_slot)
    world.verifier.post("r", [word])
    world.agent.reads[0].finish()
    assert world.verifier.poll() == {"r": Verdict.REVOKED}


def test_a_read_that_says_done_and_wrote_nothing_is_never_intact(world: World) -> None:
    """S1: a read that wrote nothing is never intact, even where an earlier one left the token in the landing word."""
    world = World(capacity=1)
    word = world.armed(1)
    world.agent.instant = True
    world.verifier.post("first", [word])
    assert world.verifier.poll() == {"first": Verdict.INTACT}
    world.agent.instant = False
    world.verifier.post("second", [word])
    world.agent.reads[1].finish(write=False)
    assert world.verifier.poll() == {"second": Verdict.REVOKED}


def test_the_worst_word_counts_and_the_verdict_waits_for_all(world: World) -> None:
    intact, revoked = world.armed(1), world.word(2)
    world.verifier.post("r", [intact, revoked])
    world.agent.reads[1].finish()
    assert world.verifier.poll() == {}
    world.agent.reads[0].finish()
    assert world.verifier.poll() == {"r": Verdict.REVOKED}


def test_revoked_is_worse_than_failed_is_worse_than_intact(world: World) -> None:
    world.verifier.post("a", [world.armed(1), world.armed(2)])
    world.agent.reads[0].finish()
    world.agent.reads[1].fail(FakeDisconnectError())
    assert world.verifier.poll() == {"a": Verdict.FAILED}
    world.verifier.post("b", [world.word(3), world.word(1)])
    world.agent.reads[2].finish()
    world.agent.reads[3].fail(FakeDisconnectError())
    assert world.verifier.poll() == {"b": Verdict.REVOKED}


def test_a_request_without_a_fence_is_refused_not_intact(world: World) -> None:
    with pytest.raises(ValueError, match="no fence word"):
        world.verifier.post("r", [])
    with pytest.raises(ValueError, match="non-zero"):
        world.verifier.post("r", [world.word(1, token=0)])
    world.verifier.post("r", [world.armed(1)])
    with pytest.raises(ValueError, match="already"):
        world.verifier.post("r", [world.word(1)])
    world.agent.reads[0].finish()
    assert world.verifier.poll() == {"r": Verdict.INTACT}
    world.verifier.post("r", [world.word(1)])
    world.agent.reads[1].finish()
    assert world.verifier.poll() == {"r": Verdict.INTACT}


def test_beyond_the_capacity_requests_wait_their_turn(world: World) -> None:
    words = [world.armed(slot, token=slot + 1) for slot in range(6)]
    for n, word in enumerate(words):
        world.verifier.post(n, [word])
    verdicts: dict[object, Verdict] = {}
    for n in range(6):
        assert len(world.agent.reads) == min(n + 2, 6)
        world.agent.reads[n].finish()
        verdicts |= world.verifier.poll()
    assert verdicts == dict.fromkeys(range(6), Verdict.INTACT)
    assert list(verdicts) == list(range(6))


def test_more_words_than_the_capacity_in_one_request(world: World) -> None:
    world.agent.instant = True
    world.verifier.post("r", [world.armed(slot) for slot in range(16)])
    assert world.verifier.poll() == {"r": Verdict.INTACT}


def test_a_read_that_cannot_be_made_fails_its_request_and_costs_no_word(world: World) -> None:
    world.agent.refuse = FakeBackendError()
    for n in range(5):
        world.verifier.post(n, [world.word(1)])
    assert world.verifier.poll() == dict.fromkeys(range(5), Verdict.FAILED)
    assert world.verifier.retained == 0
    world.agent.refuse = None
    world.agent.instant = True
    world.verifier.post("r", [world.armed(1)])
    assert world.verifier.poll() == {"r": Verdict.INTACT}


def test_a_peers_death_fails_the_read_and_frees_the_word(world: World) -> None:
    for n in range(5):
        world.verifier.post(n, [world.word(1)])
        world.agent.reads[n].fail(FakeDisconnectError())
        assert world.verifier.poll() == {n: Verdict.FAILED}
    assert world.verifier.retained == 0


def test_a_word_that_something_may_still_land_in_is_never_used_again(world: World) -> None:
    """S1: a read that is lost, but not by its peer's death, may still be under way, as it is over TCP."""
    for n in range(2):
        world.verifier.post(n, [world.word(1)])
        world.agent.reads[n].fail(FakeBackendError())
        assert world.verifier.poll() == {n: Verdict.FAILED}
    assert world.verifier.retained == 2
    world.verifier.post("no word is left", [world.armed(1)])
    assert world.verifier.poll() == {"no word is left": Verdict.FAILED}
    assert len(world.agent.reads) == 2


def test_a_post_that_fails_halfway_retains_its_word() -> None:
    world = World()
    world.agent.refuse_transfer = FakeBackendError()
    world.verifier.post("r", [world.armed(1)])
    assert world.verifier.poll() == {"r": Verdict.FAILED}
    assert world.verifier.retained == 1
    assert world.agent.reads[0].releases == 1


def test_a_failing_release_retains_the_word_and_keeps_the_verdict(world: World) -> None:
    world.agent.refuse_release = FakeBackendError()
    world.verifier.post("r", [world.armed(1)])
    world.agent.reads[0].finish()
    assert world.verifier.poll() == {"r": Verdict.INTACT}
    assert world.verifier.retained == 1


def test_a_forgotten_request_gives_no_verdict_and_its_word_rests_until_the_read_ends(world: World) -> None:
    world.verifier.post("aborted", [world.armed(1)])
    world.verifier.forget("aborted")
    world.verifier.forget("aborted")
    first = world.agent.reads[0]
    for n in range(3):
        world.verifier.post(n, [world.word(1)])
        world.agent.reads[-1].finish()
        assert world.verifier.poll() == {n: Verdict.INTACT}
        assert world.agent.reads[-1].local != first.local
    first.finish()
    assert world.verifier.poll() == {}


def test_a_forgotten_request_leaves_the_queue(world: World) -> None:
    for n in range(3):
        world.verifier.post(n, [world.armed(n)])
    world.verifier.forget(2)
    for read in world.agent.reads:
        read.finish()
    assert world.verifier.poll() == {0: Verdict.INTACT, 1: Verdict.INTACT}
    assert len(world.agent.reads) == 2


def test_the_same_request_may_come_again_after_it_was_forgotten(world: World) -> None:
    """S1: a request's first attempt may deliver the token late, which must not vouch for the second one's data."""
    word = world.armed(1)
    world.verifier.post("r", [word])
    world.verifier.forget("r")
    world.verifier.post("r", [word])
    world.table.clear(1)
    early, late = world.agent.reads
    ctypes.memmove(early.local, TOKEN.to_bytes(8, "little"), 8)
    early.state = "DONE"
    assert world.verifier.poll() == {}
    late.finish()
    assert world.verifier.poll() == {"r": Verdict.REVOKED}


def test_a_read_that_never_ends_is_lost_in_the_end(world: World) -> None:
    world.verifier.post("r", [world.armed(1)])
    world.clock.now = 9.9
    assert world.verifier.poll() == {}
    world.clock.now = 10.0
    assert world.verifier.poll() == {"r": Verdict.FAILED}
    world.agent.reads[0].finish()
    assert world.verifier.poll() == {}


def test_waiting_behind_reads_that_never_end_is_lost_too(world: World) -> None:
    for n in range(3):
        world.verifier.post(n, [world.armed(n)])
    world.clock.now = 10.0
    assert world.verifier.poll() == dict.fromkeys(range(3), Verdict.FAILED)
    assert len(world.agent.reads) == 2


def test_settle_waits_for_what_was_posted_but_not_longer_than_its_budget(world: World) -> None:
    world.clock.tick_s = 10e-6
    world.verifier.post("r", [world.armed(1)])
    started = world.clock.now
    assert world.verifier.settle() == {}
    assert 200e-6 <= world.clock.now - started < 400e-6
    world.agent.reads[0].finish()
    before = world.clock.readings
    assert world.verifier.settle() == {"r": Verdict.INTACT}
    assert world.clock.readings - before < 5, "it stops as soon as there is nothing to wait for"


def test_settle_does_not_wait_for_the_forgotten(world: World) -> None:
    world.clock.tick_s = 10e-6
    world.verifier.post("r", [world.armed(1)])
    world.verifier.forget("r")
    before = world.clock.readings
    assert world.verifier.settle() == {}
    assert world.clock.readings - before < 5


def test_closing_withdraws_the_landing_place_unless_something_may_still_land(world: World) -> None:
    world.verifier.close()
    assert len(world.agent.registered) == 1, "only the table's is left"
    other = FenceVerifier(world.agent, RegisteredWords(world.agent, 2), errors=FAKE_ERRORS)
    other.post("r", [world.armed(1)])
    other.close()
    assert len(world.agent.registered) == 2
    # The landing place has to outlive its verifier: else this would write into memory that was given back.
    landing = world.agent.reads[-1]
    del other
    landing.finish()
    assert ctypes.string_at(landing.local, 8) == TOKEN.to_bytes(8, "little")
    landing.releases = 1
