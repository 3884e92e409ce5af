"""A producer's leases in its engine's scheduler, in cases that the tests on real engines do not reach."""

from kvlease.engine.producer import ProducerSide
from kvlease.protocol import Fingerprint, resolve
from tests.agent.alone import lone_agent

CONFIG = resolve({"kv_lease_duration": 6})
PROMPT = Fingerprint(tokens=64, digest=7)


def test_a_dead_agent_grants_nothing_and_strands_nothing() -> None:
    """R12: the scheduler itself ends the outstanding leases of a dead agent, one term after its death."""
    now = 1000.0
    desk = lone_agent(CONFIG)
    producer = ProducerSide(CONFIG, desk, 1, clock=lambda: now)
    producer.open(slots=4)
    producer.take_on("before", PROMPT)
    producer.prepare("before")
    assert producer.finish("before", blocks=2) is not None
    producer.take_orders()
    desk.died_at = now
    producer.take_on("after", PROMPT)
    producer.prepare("after")
    assert not producer.has("after")
    assert producer.finish("after", blocks=2) is None
    assert producer.counts["declined.no_agent"] == 1
    assert producer.take_orders().clear == ()
    now += CONFIG.duration_s
    (slot,) = producer.take_orders().clear
    producer.hear_cleared({slot.index: 1})
    assert producer.active_leases == producer.held_blocks == len(producer.slots) == 0
    assert producer.counts["ends.expired"] == 1


def test_a_prefill_that_was_preempted_keeps_its_word() -> None:
    """A preempted prefill keeps its word, though vLLM allocates its blocks anew, and tells the connector again."""
    producer = ProducerSide(CONFIG, lone_agent(CONFIG), 1)
    producer.open(slots=4)
    producer.take_on("r", PROMPT)
    producer.prepare("r")
    (slot,) = producer.take_orders().arm
    producer.prepare("r")
    assert producer.take_orders().arm == ()
    ref = producer.finish("r", blocks=1)
    assert ref is not None
    assert ref.token == slot.token
    assert len(producer.slots) == 1


def test_of_siblings_the_lease_of_the_last_one_stays() -> None:
    """R24: the client of siblings gets the reference of the one that finishes last: the agent ends the others."""
    desk = lone_agent(CONFIG)
    producer = ProducerSide(CONFIG, desk, 1)
    producer.open(slots=4)
    refs = []
    for name, parent in (("0_a", "a"), ("0_b", "b"), ("1_a", "a")):
        producer.take_on(name, PROMPT)
        producer.prepare(name)
        refs.append(producer.finish(name, 1, parent))
    desk.turn(0.0)
    first, *_ = refs
    assert first is not None
    assert [revoked.token for revoked in desk.take_revoked()] == [first.token]


def test_no_slot_and_no_workers_are_no_offer() -> None:
    producer = ProducerSide(CONFIG, lone_agent(CONFIG), 1)
    for name in ("no workers", "first", "second"):
        producer.take_on(name, PROMPT)
        producer.prepare(name)
        assert (producer.finish(name, 1) is not None) == (name == "first")
        producer.open(slots=1)
    assert producer.counts == {"declined.no_producer": 1, "declined.no_slot": 1}
