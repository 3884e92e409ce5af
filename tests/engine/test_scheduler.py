"""The acts of an engine's scheduler with leases in a step, and their order."""

from collections import Counter
from collections.abc import Iterator

import pytest

from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.orders import NO_ORDERS, LeaseOrders, WorkerReport
from kvlease.engine.own_fences import OrderedFences
from kvlease.engine.producer import ProducerSide
from kvlease.engine.scheduler import LeaseScheduler
from kvlease.protocol import Cause, LeaseRef
from kvlease.protocol.effects import Lapse, Revive
from kvlease.testing.pool import CountedPool
from tests.agent.alone import lone_agent
from tests.engine.producers import CONFIG, PROMPT, Producer

P = ("p", 1)


class Engine:
    """A scheduler with one worker, and the desk at which it speaks to its agent."""

    def __init__(self, *, by_order: bool = False) -> None:
        self.side = Producer(by_order=by_order)
        self.desk, self.producer, self.pool = self.side.desk, self.side.side, self.side.pool
        self.consumer = ConsumerSide(self.desk)
        self.leases = LeaseScheduler(self.desk, self.producer, self.consumer)

    def prefill(self, request_id: str) -> LeaseRef:
        ref, _ = self.side.prefill(request_id)
        return ref

    def wait(self, request_id: str) -> LeaseRef:
        ref = LeaseRef(9, 1, 0, 1000, PROMPT)
        assert self.consumer.take_on(request_id, PROMPT, ref, P)
        return ref


@pytest.fixture(params=["shared words", "words by order"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(by_order=request.param == "words by order")


@pytest.fixture
def sharing() -> Engine:
    return Engine()


@pytest.fixture
def ordering() -> Engine:
    return Engine(by_order=True)


def test_a_step_without_news_gives_no_orders(engine: Engine) -> None:
    """A step without news gives no orders, whatever leases are out, and even if a request reads without one."""
    engine.prefill("out")
    engine.wait("waiting")
    assert engine.leases.begin_step(()) is None
    assert engine.leases.begin_step(("stock",)) is None


def test_a_word_is_armed_by_the_step_that_begins_its_prefill(ordering: Engine) -> None:
    ordering.producer.take_on("r", PROMPT)
    ordering.producer.prepare("r")
    orders = ordering.leases.begin_step(())
    assert orders is not None
    assert [slot.request_id for slot in orders.fence.arm] == ["r"]
    assert ordering.leases.begin_step(()) is None, "once"


def test_a_word_that_the_scheduler_writes_is_armed_without_an_order(sharing: Engine) -> None:
    sharing.producer.take_on("r", PROMPT)
    sharing.producer.prepare("r")
    assert sharing.leases.begin_step(()) is None
    ref = sharing.producer.finish("r", sharing.pool.take(1))
    assert ref is not None
    assert sharing.side.words(ref) == [ref.token]


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


def test_a_lease_that_is_over_is_cleared_by_the_workers_before_its_agent_hears_so(ordering: Engine) -> None:
    ref = ordering.prefill("r")
    ordering.desk.news = [Lapse(ref.token, Cause.EXPIRED)]
    orders = ordering.leases.begin_step(())
    assert orders is not None
    assert [slot.token for slot in orders.fence.clear] == [ref.token]
    ordering.leases.hear((), None)
    assert ordering.producer.blocks.held_blocks == 2
    assert ordering.desk.said == [("grant", ref.token)]
    report = WorkerReport()
    report.cleared[ref.slot] = 1
    ordering.leases.hear((), report)
    assert ordering.producer.blocks.held_blocks == 0
    assert ordering.desk.said == [("grant", ref.token), ("cleared", ref.token)]


def test_news_of_leases_are_taken_in_a_step_and_need_no_worker(sharing: Engine) -> None:
    ref = sharing.prefill("r")
    sharing.desk.news = [Lapse(ref.token, Cause.EXPIRED)]
    assert sharing.leases.begin_step(()) is None
    assert sharing.producer.blocks.has_lapsed(ref.token)
    sharing.desk.news = [Revive(ref.token)]
    assert sharing.leases.begin_step(()) is None
    assert sharing.producer.blocks.holds(ref.token)
    assert sharing.desk.said == [("grant", ref.token)]


def test_leases_of_an_agent_that_died_are_taken_back_in_a_step_like_any_other() -> None:
    now = 1000.0
    agent = lone_agent(CONFIG, lambda: now)
    pool = CountedPool(4)
    producer = ProducerSide(CONFIG, agent, pool, 1, clock=lambda: now)
    producer.open(1, OrderedFences(1))
    leases = LeaseScheduler(agent, producer, ConsumerSide(agent))
    producer.take_on("r", PROMPT)
    producer.prepare("r")
    leases.begin_step(())
    assert producer.finish("r", pool.take(2)) is not None
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


def test_a_stock_consumers_word_that_it_has_read_is_passed_on(engine: Engine) -> None:
    ref = engine.prefill("r")
    engine.leases.hear((), WorkerReport(read=Counter(r=1, unknown=1)))
    assert engine.desk.said[1:] == [("release", ref.token)]


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


def test_a_prefill_that_is_not_used_is_counted_once_whoever_tells_of_it(sharing: Engine) -> None:
    """A request is one, however many of its workers refuse what they have read."""
    sharing.wait("late")
    for unused in ({"late": "revoked", "unknown": "revoked"}, {"late": "no_fence"}):
        sharing.leases.hear((), WorkerReport(unused=unused))
    sharing.leases.hear(["late"], WorkerReport(unused={"late": "failed"}), ["late"])
    assert sharing.consumer.wasted_tokens == {"revoked": PROMPT.tokens}
    sharing.leases.hear(["late"], None, ["late"])
    assert sharing.consumer.wasted_tokens == {"revoked": PROMPT.tokens}, "it is over"


def test_a_read_that_fails_without_a_verdict_is_a_prefill_not_used(sharing: Engine) -> None:
    for request_id in ("failed", "read"):
        sharing.wait(request_id)
    sharing.leases.hear(["failed", "read"], None, ["failed", "stock"])
    assert sharing.consumer.wasted_tokens == {"failed": PROMPT.tokens}


def test_a_lost_lease_is_counted_as_lost_and_not_as_a_failed_read(sharing: Engine) -> None:
    sharing.wait("r")
    sharing.desk.lost.append("r")
    orders = sharing.leases.begin_step(["r"])
    assert orders is not None
    assert orders.unreadable == {"r"}
    sharing.leases.hear(["r"], None, ["r"])
    assert sharing.consumer.wasted_tokens == {"lost": PROMPT.tokens}


def test_the_name_of_a_request_may_come_again(sharing: Engine) -> None:
    for times in (1, 2):
        sharing.wait("r")
        sharing.leases.hear(["r"], None, ["r"])
        assert sharing.consumer.wasted_tokens == {"failed": times * PROMPT.tokens}


def test_a_lease_that_lives_again_has_saved_its_prefill(sharing: Engine) -> None:
    ref = sharing.prefill("r")
    for _ in range(2):
        sharing.side.lapse(ref)
        sharing.side.revive(ref)
    assert sharing.producer.counts["saved_tokens"] == 2 * PROMPT.tokens
