"""An agent wakes its idle engine where there is something to hear, and seldom; a busy one is never woken."""

import pytest

from kvlease.agent.core import IDLE_STEP_S, SILENT_STEP_S, AgentCore
from kvlease.protocol import Cause, Endpoint, Fingerprint, LeaseCard, LeaseRef, resolve
from kvlease.protocol.effects import Lapse
from kvlease.protocol.messages import VERSION, milliseconds
from kvlease.testing.cards import MemoryCards
from kvlease.testing.clock import ManualClock
from kvlease.testing.network import MemoryNetwork, MemoryTransport
from tests.agent.alone import lone_agent

CONFIG = resolve({"kv_lease_duration": 6})
TURN_S = 0.01
PLACE: Endpoint = ("p.example", 5600)


class Engine:
    """An engine whose steps the test makes, and the agent that may wake it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.network = MemoryNetwork()
        self.agent: AgentCore = lone_agent(CONFIG, self.clock, self.network)
        self.consumers: list[AgentCore] = []
        self.woken_at: list[float] = []
        self.agent.wake_by(lambda: self.woken_at.append(self.clock.now))

    def run(self, duration_s: float, *, steps: bool = False) -> None:
        """Lets the agent take turns. `steps`: the engine does what it is woken for."""
        for _ in range(round(duration_s / TURN_S)):
            self.clock.now += TURN_S
            for agent in (self.agent, *self.consumers):
                agent.turn(self.clock.now)
            if steps and self.agent.wants_step:
                self.step()

    def step(self) -> None:
        self.agent.progress()
        self.agent.take_news()
        self.agent.has_told(self.agent.report())
        self.agent.step_ended()

    def claimed_by_another(self, token: int) -> None:
        """A consumer in a long step claims a lease, and renews it from now on."""
        own = self.agent
        cards = MemoryCards({PLACE: LeaseCard([VERSION], own.incarnation, own.address, [])})
        consumer = AgentCore(CONFIG, "decode", lambda it: MemoryTransport(self.network, it), cards, clock=self.clock)
        consumer.progress()
        ref = LeaseRef(own.incarnation, token, 0, milliseconds(CONFIG.duration_s), Fingerprint(1, 0))
        consumer.track("request", ref, PLACE)
        self.consumers.append(consumer)


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_an_engine_without_leases_sleeps(engine: Engine) -> None:
    engine.run(10)
    assert engine.woken_at == []
    assert not engine.agent.wants_step


def test_an_engine_with_leases_out_is_woken_now_and_then(engine: Engine) -> None:
    engine.agent.grant(7)
    begun = engine.clock.now
    engine.run(5, steps=True)
    gaps = [after - before for before, after in zip([begun, *engine.woken_at], engine.woken_at, strict=False)]
    assert max(gaps) <= IDLE_STEP_S + 1.5 * TURN_S
    assert min(gaps) > IDLE_STEP_S


def test_an_engine_whose_leases_are_all_claimed_is_woken_for_the_claims_and_seldom_after(engine: Engine) -> None:
    """Consumers with sessions reach the agent, and a step is dear where vLLM's workers poll after it."""
    engine.agent.grant(7)
    engine.claimed_by_another(7)
    engine.run(1 + SILENT_STEP_S, steps=True)
    assert engine.agent.peer.lessor.counts["renewals"] > SILENT_STEP_S / CONFIG.duration_s
    first, second = engine.woken_at
    assert SILENT_STEP_S < second - first < SILENT_STEP_S + 2 * TURN_S


def test_one_unclaimed_lease_among_claimed_ones_keeps_its_engine_listening(engine: Engine) -> None:
    engine.agent.grant(7)
    engine.agent.grant(8)
    engine.claimed_by_another(7)
    engine.run(2, steps=True)
    assert engine.agent.peer.lessor.claimed == 1
    assert len(engine.woken_at) >= 3


def test_an_engine_that_has_heard_stock_consumers_goes_on_listening(engine: Engine) -> None:
    """One may keep a lease that a session claims, and its heartbeats reach the workers alone."""
    engine.agent.grant(7)
    engine.claimed_by_another(7)
    engine.agent.extend(7)
    engine.run(3, steps=True)
    assert len(engine.woken_at) >= 5


def test_an_engine_is_woken_once_until_it_makes_a_step(engine: Engine) -> None:
    engine.agent.grant(7)
    engine.run(2)
    assert len(engine.woken_at) == 1
    assert engine.agent.wants_step
    engine.step()
    assert not engine.agent.wants_step
    engine.run(IDLE_STEP_S + 2 * TURN_S)
    assert len(engine.woken_at) == 2


def test_news_wake_an_engine_at_once(engine: Engine) -> None:
    engine.agent.grant(7)
    engine.run(0.02)
    engine.step()
    engine.agent.release(7)
    engine.run(TURN_S)
    assert engine.woken_at == [engine.clock.now]
    assert engine.agent.wants_step
    assert engine.agent.take_news() == [Lapse(7, Cause.RELEASED)]


def test_news_that_are_not_taken_are_wanted_still(engine: Engine) -> None:
    """A step that takes no news leaves them to the next one."""
    engine.agent.grant(7)
    engine.agent.release(7)
    engine.run(TURN_S)
    engine.agent.progress()
    engine.agent.step_ended()
    assert engine.agent.wants_step
    engine.run(TURN_S)
    assert len(engine.woken_at) == 2


def test_an_engine_in_a_step_is_not_woken(engine: Engine) -> None:
    engine.agent.grant(7)
    engine.agent.progress()
    engine.agent.release(7)
    engine.run(2)
    assert engine.woken_at == []
    engine.agent.step_ended()
    engine.run(TURN_S)
    assert len(engine.woken_at) == 1, "the news came after that step had asked for them"


def test_an_engine_with_overlapping_steps_is_not_woken_before_the_last_ends(engine: Engine) -> None:
    engine.agent.grant(7)
    engine.agent.progress()
    engine.agent.progress()
    engine.agent.step_ended()
    engine.run(2)
    assert engine.woken_at == []


def test_a_busy_engine_is_not_woken(engine: Engine) -> None:
    engine.agent.grant(7)
    for _ in range(100):
        engine.step()
        engine.run(0.03)
    assert engine.woken_at == []


def test_lapsed_leases_wake_nobody(engine: Engine) -> None:
    engine.agent.grant(7)
    engine.agent.release(7)
    engine.run(1, steps=True)
    woken = len(engine.woken_at)
    engine.run(10, steps=True)
    assert len(engine.woken_at) == woken


def test_an_engine_that_cannot_be_woken_takes_its_news_when_it_steps() -> None:
    clock = ManualClock()
    agent = lone_agent(CONFIG, clock)
    agent.grant(7)
    agent.release(7)
    agent.turn(clock.now)
    assert agent.wants_step
    assert agent.progress()


def test_an_engine_may_have_itself_woken(engine: Engine) -> None:
    """A change that the engine itself makes between two steps is told in a step."""
    engine.agent.ask_for_step()
    assert engine.woken_at == [engine.clock.now]
    engine.run(1, steps=True)
    assert len(engine.woken_at) == 1
    assert not engine.agent.wants_step


def test_an_engine_that_cannot_be_woken_wants_the_step_that_it_asked_for() -> None:
    agent = lone_agent(CONFIG)
    agent.ask_for_step()
    assert agent.wants_step
    agent.progress()
    assert not agent.wants_step


def test_a_death_of_the_agent_is_told_at_once(engine: Engine) -> None:
    """R17: an idle engine shows nothing new, and that its agent is dead has to be seen."""
    engine.agent.die()
    assert engine.woken_at == [engine.clock.now]
    assert engine.agent.wants_step
