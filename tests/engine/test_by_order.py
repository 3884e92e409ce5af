"""A producer whose workers write the fence's words by order, since its scheduler does not share their memory (S2)."""

from kvlease.protocol import Cause
from tests.engine.producers import CONFIG, PROMPT, Producer


def test_s2_where_workers_clear_by_order_nothing_lapses_and_blocks_go_when_all_have() -> None:
    p = Producer(workers=2, by_order=True)
    ref, _ = p.prefill("r", 2)
    p.lapse(ref)
    assert p.pool.free == 18
    assert not p.side.blocks.has_lapsed(ref.token)
    orders = p.side.fences.take_orders()
    assert [slot.token for slot in orders.clear] == [ref.token]
    p.side.hear_cleared({ref.slot: 1})
    assert (p.pool.free, p.said("cleared")) == (18, [])
    p.side.hear_cleared({ref.slot: 1})
    assert (p.pool.free, p.said("cleared")) == (20, [ref.token])
    assert p.side.counts["ends.expired"] == p.side.ended == 1


def test_where_workers_clear_by_order_a_claim_after_the_lapse_is_too_late() -> None:
    p = Producer(by_order=True)
    ref, _ = p.prefill("r", 2)
    p.lapse(ref)
    p.revive(ref)
    assert p.side.counts["late_claims.too_late"] == 1
    p.lapse(ref, Cause.EXPIRED)
    assert p.side.ended == 1
    assert len(p.side.fences.take_orders().clear) == 1, "it is cleared once"


def test_the_engine_makes_steps_while_workers_have_words_to_clear_by_order() -> None:
    p = Producer(by_order=True)
    assert not p.side.holds_by_order
    ref, _ = p.prefill("r", 2)
    assert p.side.holds_by_order
    p.lapse(ref)
    assert p.side.holds_by_order
    p.step()
    assert not p.side.holds_by_order
    p.is_empty()
    shared = Producer()
    shared.prefill("r", 2)
    assert not shared.side.holds_by_order, "a scheduler that writes words itself needs no steps"


def test_a_prefill_that_is_aborted_by_order_keeps_its_slot_until_its_word_is_clear() -> None:
    p = Producer(by_order=True, slots=1)
    p.side.take_on("r", PROMPT)
    p.side.prepare("r")
    p.side.abort("r")
    p.side.take_on("next", PROMPT)
    p.side.prepare("next")
    assert not p.side.has("next"), "S3"
    assert p.side.holds_by_order, "no other lease would bring the step in which the word is cleared"
    p.step()
    p.is_empty()
    p.side.prepare("next")
    assert p.side.has("next")


def test_a_name_that_comes_again_while_its_first_word_is_being_cleared_has_another_slot() -> None:
    p = Producer(by_order=True)
    first, _ = p.prefill("r", 1)
    p.lapse(first)
    second, _ = p.prefill("r", 1)
    assert (p.words(first), p.words(second)) == ([0], [second.token])
    assert p.side.take_retired() == []


def test_a_reset_by_order_ends_each_lease_once() -> None:
    p = Producer(workers=2, by_order=True)
    going, staying = p.prefill("going", 1)[0], p.prefill("staying", 1)[0]
    p.lapse(going)
    p.side.reset()
    assert p.side.ended == 2
    p.step()
    assert sorted(p.said("cleared")) == sorted([going.token, staying.token])
    p.is_empty()


def test_r12_a_dead_agents_leases_are_taken_back_by_order_once() -> None:
    p = Producer(by_order=True)
    ref, _ = p.prefill("r", 2)
    p.desk.died_at = p.clock.now
    p.clock.now += CONFIG.duration_s
    for _ in range(3):
        p.side.hear_news()
    assert [slot.token for slot in p.side.fences.take_orders().clear] == [ref.token]
    assert p.side.counts["ends.expired"] == 1
