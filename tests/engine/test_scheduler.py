"""The acts of an engine's scheduler with leases in a step, and their order."""

from collections.abc import Iterator

import pytest

from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.orders import LeaseOrders, WorkerReport
from kvlease.engine.producer import ProducerSide
from kvlease.engine.scheduler import LeaseScheduler
from kvlease.fence.slots import NO_ORDERS
from kvlease.protocol import Cause, Fingerprint, LeaseRef, resolve
from kvlease.protocol.effects import Revoke
from kvlease.testing.desk import ListedDesk
from tests.agent.alone import lone_agent

CONFIG = resolve({"kv_lease_duration": 6})
PROMPT = Fingerprint(tokens=64, digest=7)
P = ("p", 1)


class Engine:
    """A scheduler with one worker, and the desk at which it speaks to its agent."""

    def __init__(self) -> None:
        self.desk = ListedDesk(incarnation=7)
        self.producer = ProducerSide(CONFIG, self.desk, 1, draw=iter(range(1, 100)).__next__)
        self.producer.open(slots=4)
        self.consumer = ConsumerSide(self.desk)
        self.leases = LeaseScheduler(self.desk, self.producer, self.consumer)

    def prefill(self, request_id: str) -> LeaseRef:
        self.producer.take_on(request_id, PROMPT)
        self.producer.prepare(request_id)
        self.leases.begin_step(())
        ref = self.producer.finish(request_id, blocks=2)
        assert ref is not None
        return ref

    def wait(self, request_id: str) -> LeaseRef:
        ref = LeaseRef(9, 1, 0, 1000, PROMPT)
        assert self.consumer.take_on(request_id, PROMPT, ref, P)
        return ref


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_a_step_without_news_gives_no_orders(engine: Engine) -> None:
    """A step without news gives no orders, whatever leases are out, and even if a request reads without one."""
    engine.prefill("out")
    engine.wait("waiting")
    assert engine.leases.begin_step(()) is None
    assert engine.leases.begin_step(("stock",)) is None


def test_a_word_is_armed_in_the_step_that_begins_its_prefill(engine: Engine) -> None:
    engine.producer.take_on("r", PROMPT)
    engine.producer.prepare("r")
    orders = engine.leases.begin_step(())
    assert orders is not None
    assert [slot.request_id for slot in orders.fence.arm] == ["r"]
    assert engine.leases.begin_step(()) is None, "once"


def test_r20_a_lease_that_was_lost_meanwhile_is_not_read_at_all(engine: Engine) -> None:
    """R20: the scheduler takes news of lost leases before it says what is to be read."""
    good, _ = engine.wait("good"), engine.wait("lost")
    engine.desk.lost = ["lost"]
    orders = engine.leases.begin_step(("good", "lost", "stock"))
    assert orders == LeaseOrders(NO_ORDERS, {"good": good}, frozenset({"lost"}))


def test_what_was_lost_while_it_waited_is_not_read_when_its_turn_comes(engine: Engine) -> None:
    engine.wait("r")
    engine.desk.lost = ["r"]
    assert engine.leases.begin_step(()) is None, "the workers have nothing to do for it yet"
    orders = engine.leases.begin_step(("r",))
    assert orders is not None
    assert orders.unreadable == {"r"}


def test_a_lease_that_is_over_is_cleared_by_the_workers_before_its_agent_hears_so(engine: Engine) -> None:
    ref = engine.prefill("r")
    engine.desk.revoked = [Revoke(ref.token, Cause.EXPIRED)]
    orders = engine.leases.begin_step(())
    assert orders is not None
    assert [slot.token for slot in orders.fence.clear] == [ref.token]
    engine.leases.hear((), None)
    assert engine.producer.held_blocks == 2
    assert engine.desk.said == [("grant", ref.token)]
    report = WorkerReport()
    report.cleared[ref.slot] = 1
    engine.leases.hear((), report)
    assert engine.producer.held_blocks == 0
    assert engine.desk.said == [("grant", ref.token), ("cleared", ref.token)]


def test_leases_of_an_agent_that_died_are_taken_back_in_a_step_like_any_other() -> None:
    now = 1000.0
    agent = lone_agent(CONFIG, lambda: now)
    producer = ProducerSide(CONFIG, agent, 1, clock=lambda: now)
    producer.open(slots=1)
    leases = LeaseScheduler(agent, producer, ConsumerSide(agent))
    producer.take_on("r", PROMPT)
    producer.prepare("r")
    leases.begin_step(())
    assert producer.finish("r", blocks=2) is not None
    agent.die()
    assert leases.begin_step(()) is None
    now += CONFIG.duration_s
    orders = leases.begin_step(())
    assert orders is not None
    assert [slot.request_id for slot in orders.fence.clear] == ["r"]


def test_a_lease_is_kept_until_every_worker_has_read_under_it(engine: Engine) -> None:
    ref = engine.wait("r")
    engine.leases.begin_step(("r",))
    assert engine.desk.said == [("track", "r", ref, P, False)]
    engine.leases.hear(("r", "stock"), None)
    assert engine.desk.said[1:] == [("untrack", "r")]


def test_a_stock_consumers_heartbeat_extends_what_it_names(engine: Engine) -> None:
    ref = engine.prefill("r")
    engine.leases.hear((), WorkerReport(heartbeats={"r", "unknown"}))
    assert engine.desk.said[1:] == [("extend", ref.token)]


def test_heartbeats_of_one_step_are_heard_in_the_same_order_in_every_process(engine: Engine) -> None:
    """Heartbeats are heard in one order: a set has another one in each process, and a replay would differ."""
    names = [f"r{number}" for number in range(4)]
    tokens = [engine.prefill(name).token for name in names]
    engine.desk.said.clear()
    engine.leases.hear((), WorkerReport(heartbeats=Backwards(names)))
    assert engine.desk.said == [("extend", token) for token in tokens]


class Backwards(set[str]):
    """A set whose iteration goes from its greatest name to its least."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__(), reverse=True))
