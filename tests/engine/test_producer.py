"""A producer's leases in its engine's scheduler: from their preparation until their words are clear (S2, S3)."""

from kvlease.engine.own_fences import OrderedFences
from kvlease.engine.producer import ProducerSide
from kvlease.protocol import Cause
from kvlease.protocol.effects import Lapse
from kvlease.testing.desk import ListedDesk
from kvlease.testing.pool import CountedPool
from tests.engine.producers import CONFIG, PROMPT, Producer


def test_a_lease_is_armed_before_its_blocks_are_offered_and_holds_them_after_its_request() -> None:
    p = Producer(workers=2)
    p.side.take_on("r", PROMPT)
    blocks = p.pool.take(3)
    p.side.prepare("r")
    assert [len({table.word(slot) for slot in range(4)}) for table in p.tables] == [2, 2], "a word in each"
    ref = p.side.finish("r", blocks)
    assert ref is not None
    assert p.words(ref) == [ref.token] * 2
    p.pool.give_back(blocks)
    assert p.pool.free == 17
    assert p.desk.said == [("grant", ref.token)]


# -- slots -------------------------------------------------------------------------------------------------------------


def test_when_slots_run_out_the_lease_that_lapsed_first_gives_up_its_own() -> None:
    p = Producer(slots=3)
    refs = {name: p.prefill(name, 1)[0] for name in ("a", "b", "c")}
    for name in ("b", "a"):
        p.lapse(refs[name])
    new, _ = p.prefill("d", 1)
    assert new.slot == refs["b"].slot
    assert p.words(new) == [new.token]
    assert p.said("cleared") == [refs["b"].token]
    assert p.words(refs["a"]) == [refs["a"].token]
    assert p.side.take_retired() == ["b"]


def test_when_slots_run_out_a_lease_that_was_read_is_spared_before_an_older_one_that_was_not() -> None:
    p = Producer(slots=3)
    refs = {name: p.prefill(name, 1)[0] for name in ("a", "b", "c")}
    p.lapse(refs["a"], Cause.EXPIRED)
    p.lapse(refs["b"], Cause.RELEASED)
    p.prefill("d", 1)
    assert p.said("cleared") == [refs["b"].token]
    p.prefill("e", 1)
    assert p.said("cleared") == [refs["b"].token, refs["a"].token]


def test_no_slot_and_no_workers_are_no_offer() -> None:
    held = Producer(slots=1)
    held.prefill("first", 1)
    unopened = ProducerSide(CONFIG, ListedDesk(7), CountedPool(4), 1)
    for side, why in ((held.side, "no_slot"), (unopened, "no_producer")):
        side.take_on("r", PROMPT)
        side.prepare("r")
        assert not side.has("r")
        assert side.finish("r", [1]) is None
        assert side.counts == {f"declined.{why}": 1}


def test_the_fences_that_come_first_stay() -> None:
    p = Producer(slots=1)
    fences = p.side.fences
    p.side.open(9, OrderedFences(1))
    assert (p.side.fences, p.side.slots.count) == (fences, 1)


# -- a reset, and an agent that dies -----------------------------------------------------------------------------------


def test_a_reset_ends_all_leases_before_anything_is_computed_anew() -> None:
    p = Producer(workers=2)
    held, _ = p.prefill("held", 2)
    lapsed, _ = p.prefill("lapsed", 2)
    p.lapse(lapsed)
    p.side.reset()
    assert p.words(held) + p.words(lapsed) == [0] * 4
    assert sorted(p.said("cleared")) == sorted([held.token, lapsed.token])
    assert (p.side.counts["ends.reset"], p.side.ended) == (1, 2)
    p.is_empty()
    p.revive(lapsed)
    p.is_empty()


def test_a_reset_leaves_a_prefill_alone_that_is_not_done() -> None:
    p = Producer()
    p.side.take_on("r", PROMPT)
    p.side.prepare("r")
    p.side.reset()
    ref = p.side.finish("r", p.pool.take(1))
    assert ref is not None
    assert p.words(ref) == [ref.token]


def test_r12_a_dead_agent_grants_nothing_and_strands_nothing() -> None:
    """R12: the scheduler itself lapses the leases of a dead agent, one term after its death."""
    p = Producer()
    p.prefill("before", 2)
    p.desk.died_at = p.clock.now
    p.side.take_on("after", PROMPT)
    p.side.prepare("after")
    assert not p.side.has("after")
    assert p.side.finish("after", [1]) is None
    assert p.side.counts["declined.no_agent"] == 1
    p.clock.now += CONFIG.duration_s - 0.1
    p.side.hear_news()
    assert p.side.blocks.held_leases == 1
    p.clock.now += 0.1
    p.side.hear_news()
    assert (p.side.blocks.held_leases, p.side.blocks.lapsed_leases) == (0, 1)
    assert p.side.counts["ends.expired"] == 1
    p.pool.take(20)
    assert len(p.side.slots) == 0


def test_what_a_dead_agent_had_said_still_counts() -> None:
    p = Producer()
    ref, _ = p.prefill("r", 2)
    p.desk.news.append(Lapse(ref.token, Cause.RELEASED))
    p.desk.died_at = p.clock.now
    p.side.hear_news()
    assert p.side.counts["ends.released"] == 1


# -- stock consumers ---------------------------------------------------------------------------------------------------


def test_r9_a_stock_consumer_has_read_when_every_worker_says_so() -> None:
    p = Producer(workers=2)
    ref, _ = p.prefill("r", 2)
    p.side.hear_read({"r": 1})
    assert p.said("release") == []
    p.side.hear_read({"r": 1, "unknown": 2})
    assert p.said("release") == [ref.token]
    assert p.side.counts["unfenced_reads"] == 1
    assert p.side.blocks.holds(ref.token), "the agent decides, since others may claim it"


def test_r9_heartbeats_of_stock_consumers_are_for_the_agent() -> None:
    p = Producer()
    ref, _ = p.prefill("r", 2)
    p.side.hear_heartbeats(["r", "unknown"])
    assert p.said("extend") == [ref.token]
