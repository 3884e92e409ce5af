"""The lease agent on the in-memory transport: the loop, and the thread around it."""

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from kvlease.agent import loop
from kvlease.agent.asking import OpenQuestions
from kvlease.agent.core import CONNECTING_S, READING_S
from kvlease.agent.loop import LeaseAgent
from kvlease.errors import AgentGone, UnsupportedEngine
from kvlease.protocol import Cause, Endpoint, Fingerprint, LeaseCard, LeaseRef, Peer, resolve
from kvlease.protocol.effects import Lapse, Revive
from kvlease.protocol.messages import MAX_ADDRESS_BYTES, VERSION, milliseconds
from kvlease.testing.cards import MemoryCards
from kvlease.testing.network import MemoryNetwork, MemoryTransport
from tests.waiting import wait_until

CONFIG = resolve({"kv_lease_duration": 6, "kv_lease_orphan_grace": 1})
P, D, D2 = 0xA, 0xD, 0xD2
SIDE_CHANNEL: Endpoint = ("p.example", 5600)


@dataclass
class World:
    """Agents on one network, which take their turns by hand in a time of their own."""

    network: MemoryNetwork = field(default_factory=MemoryNetwork)
    served: dict[Endpoint, LeaseCard] = field(default_factory=dict)
    agents: dict[int, LeaseAgent] = field(default_factory=dict)
    now: float = 100.0

    def agent(self, incarnation: int) -> LeaseAgent:
        agent = LeaseAgent(
            CONFIG,
            f"engine-{incarnation:x}",
            lambda own: MemoryTransport(self.network, own),
            MemoryCards(self.served),
            incarnation=incarnation,
            clock=lambda: self.now,
        )
        self.agents[incarnation] = agent
        return agent

    def producer(self) -> LeaseAgent:
        agent = self.agent(P)
        self.served[SIDE_CHANNEL] = LeaseCard([VERSION], P, agent.address, [])
        return agent

    def kill(self, incarnation: int) -> None:
        self.network.kill(incarnation)
        del self.agents[incarnation]

    def run(self, seconds: float, tick_s: float = 0.02) -> None:
        """Lets time pass, in which every engine makes steps."""
        end = self.now + seconds
        while self.now < end:
            self.now += tick_s
            for agent in self.agents.values():
                agent.progress()
                agent.turn(self.now)


def ref(token: int) -> LeaseRef:
    return LeaseRef(P, token, 0, milliseconds(CONFIG.duration_s), Fingerprint(1, 0))


def claimed(world: World, token: int = 7) -> tuple[LeaseAgent, LeaseAgent]:
    """P and D, with one lease of P claimed by D."""
    p, d = world.producer(), world.agent(D)
    p.grant(token)
    d.track("r", ref(token), SIDE_CHANNEL)
    world.run(0.5)
    assert p.report().lessor["claims"] == 1
    return p, d


def test_a_lease_is_kept_for_many_terms_and_released_at_once() -> None:
    world = World()
    p, d = claimed(world)
    world.run(10 * CONFIG.duration_s)
    assert p.take_news() == []
    assert not p.progress()
    d.untrack("r")
    world.run(0.1)
    assert p.progress(), "a step hears that there is news"
    assert p.take_news() == [Lapse(7, Cause.RELEASED)]
    assert not p.progress()


def test_r18_a_dead_consumer_is_noticed_in_under_a_second_and_its_lease_taken_back_after_the_grace() -> None:
    world = World()
    p, _ = claimed(world)
    world.kill(D)
    world.run(CONFIG.probe_interval_s + 0.1)
    assert p.report().lessor["deaths"] == 1
    assert p.take_news() == []
    world.run(CONFIG.orphan_grace_s + 0.1)
    assert p.take_news() == [Lapse(7, Cause.ORPHANED)]


def test_r23_another_consumer_takes_over_within_the_grace() -> None:
    world = World()
    p, _ = claimed(world)
    world.kill(D)
    world.run(CONFIG.probe_interval_s + 0.1)
    world.agent(D2).track("again", ref(7), SIDE_CHANNEL)
    world.run(3 * CONFIG.duration_s)
    assert p.take_news() == []


def test_r23_another_consumer_takes_over_what_has_lapsed() -> None:
    world = World()
    p, d = claimed(world)
    d.untrack("r")
    world.run(3 * CONFIG.duration_s)
    world.agent(D2).track("again", ref(7), SIDE_CHANNEL)
    world.run(3 * CONFIG.duration_s)
    assert p.take_news() == [Lapse(7, Cause.RELEASED), Revive(7)]


def test_r20_a_consumer_hears_of_a_lease_whose_blocks_had_just_gone() -> None:
    world = World()
    p, d = claimed(world)
    p.cleared(7)
    world.run(0.1)
    assert d.take_lost() == ["r"]
    assert p.report().leases == 0


def test_r20_a_consumer_hears_what_the_producer_does_not_hold() -> None:
    world = World()
    world.producer()
    d = world.agent(D)
    d.track("late", ref(99), SIDE_CHANNEL)
    world.run(0.5)
    assert d.progress()
    assert d.take_lost() == ["late"]
    assert not d.progress()


def test_r22_a_restarted_producer_honours_no_old_lease() -> None:
    world = World()
    _, d = claimed(world)
    world.kill(P)
    again = world.agent(0xA2)
    world.served[SIDE_CHANNEL] = LeaseCard([VERSION], 0xA2, again.address, [])
    world.run(10)
    assert d.take_lost() == ["r"]
    assert d.report().producers == 0


class WordyTransport(MemoryTransport):
    """A transport on a host with more network devices than fit into a Hello."""

    @property
    def address(self) -> bytes:
        return bytes(MAX_ADDRESS_BYTES + 1)


def test_r11_an_address_that_fits_into_no_message_stops_the_engine_at_start() -> None:
    network = MemoryNetwork()
    with pytest.raises(UnsupportedEngine, match="UCX_NET_DEVICES"):
        LeaseAgent(CONFIG, "engine", lambda own: WordyTransport(network, own), MemoryCards({}))


def test_r14_malformed_messages_are_counted_and_harm_nobody() -> None:
    world = World()
    p, _ = claimed(world)
    stranger = MemoryTransport(world.network, 0xBAD)
    stranger.connect(P, p.address)
    for payload in (b"", b"junk", b"KVL\x01\xff", b"KVL\x63", b"K" * 9000):
        stranger.send(P, payload)
    world.run(2 * CONFIG.duration_s)
    report = p.report()
    assert {k: v for k, v in report.agent.items() if k.startswith("refused")} == {
        "refused.magic": 2,
        "refused.body": 1,
        "refused.encoding": 1,
        "refused.size": 1,
        "refused.sender": 0,
    }
    assert p.take_news() == []


def test_an_unreachable_producer_is_looked_for_and_found() -> None:
    world = World()
    d = world.agent(D)
    d.track("r", ref(7), SIDE_CHANNEL)
    world.run(3)
    p = world.producer()
    p.grant(7)
    world.run(3)
    assert p.report().lessor["claims"] == 1


def test_an_engine_that_is_both_keeps_its_link_until_both_sides_are_through() -> None:
    """A reads from B and B from A (kv_both): the end of one session does not cut the link of the other."""
    world = World()
    p, d = claimed(world)
    back: Endpoint = ("d.example", 5600)
    world.served[back] = LeaseCard([VERSION], D, d.address, [])
    d.grant(70)
    p.track("back", LeaseRef(D, 70, 0, 6000, Fingerprint(1, 0)), back)
    world.run(1)
    d.untrack("r")
    world.run(60)
    assert d.take_news() == []
    assert p.report().consumers == 0
    p.untrack("back")
    world.run(0.2)
    assert d.take_news() == [Lapse(70, Cause.RELEASED)]
    assert "sends_failed" not in p.report().agent.keys() | d.report().agent.keys(), "the link was there all the time"


def test_the_thread_runs_the_loop_and_says_bye() -> None:
    network = MemoryNetwork()
    served: dict[Endpoint, LeaseCard] = {}

    def start(incarnation: int) -> LeaseAgent:
        agent = LeaseAgent(
            CONFIG,
            "engine",
            lambda own: MemoryTransport(network, own),
            MemoryCards(served),
            incarnation=incarnation,
        )
        agent.start()
        return agent

    p, d = start(P), start(D)
    served[SIDE_CHANNEL] = LeaseCard([VERSION], P, p.address, [])
    p.grant(7)
    d.track("r", ref(7), SIDE_CHANNEL)
    wait_until(lambda: p.report().lessor.get("claims") == 1)
    d.close()
    # A consumer that says Bye leaves no orphan, so P waits no grace.
    wait_until(lambda: p.report().consumers == 0)
    assert p.take_news() == [Lapse(7, Cause.RELEASED)]
    p.close()


def test_an_engine_that_reads_and_lets_go_is_heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """P's memory waits for that word, and not for D's next turn."""
    for pause in ("POLL_S", "READING_POLL_S"):
        monkeypatch.setattr(loop, pause, 3600.0)
    agent = LeaseAgent(CONFIG, "engine", lambda own: MemoryTransport(MemoryNetwork(), own), MemoryCards({}))
    turns: list[float] = []
    monkeypatch.setattr(agent, "turn", turns.append)
    agent.start()
    agent.track("r", ref(7), SIDE_CHANNEL)
    wait_until(lambda: len(turns) == 1)
    agent.untrack("r")
    wait_until(lambda: len(turns) == 2)
    agent.close()
    assert not agent.is_alive


def test_what_is_said_while_a_turn_is_taken_is_heard_in_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for pause in ("POLL_S", "READING_POLL_S"):
        monkeypatch.setattr(loop, pause, 3600.0)
    agent = LeaseAgent(CONFIG, "engine", lambda own: MemoryTransport(MemoryNetwork(), own), MemoryCards({}))
    turns: list[float] = []

    def turn(now: float) -> bool:
        turns.append(now)
        if len(turns) == 1:
            agent.untrack("another")
        return True

    monkeypatch.setattr(agent, "turn", turn)
    agent.start()
    agent.untrack("r")
    wait_until(lambda: len(turns) == 2)
    agent.close()


def test_both_sides_look_often_after_a_claim() -> None:
    """Read blocks wait for a word on its way through two agents."""
    world = World()
    p, d = world.producer(), world.agent(D)
    p.grant(7)
    world.run(1)
    assert (p.pause_s(), d.pause_s()) == (loop.POLL_S, loop.POLL_S)
    d.track("r", ref(7), SIDE_CHANNEL)
    assert d.pause_s() == loop.READING_POLL_S
    while not p.report().lessor.get("claims"):
        world.run(0.02)
    world.run(CONNECTING_S)
    assert p.pause_s() == loop.READING_POLL_S
    world.run(2 * READING_S)
    assert (p.pause_s(), d.pause_s()) == (loop.POLL_S, loop.POLL_S)


def _bug(now: float) -> None:
    raise ZeroDivisionError(now)


def test_a_bug_in_the_thread_is_logged_and_leaves_the_engine_alive(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = MemoryNetwork()
    agent = LeaseAgent(CONFIG, "engine", lambda own: MemoryTransport(network, own), MemoryCards({}), incarnation=P)
    agent.start()
    monkeypatch.setattr(agent.peer.lessor, "advance", _bug)
    wait_until(lambda: "the lease agent died" in caplog.text)
    assert agent.died_at is not None
    assert not agent.report().up
    assert "ZeroDivisionError" in caplog.text
    # The dead agent does not hear its engine any more, which harms nothing.
    agent.grant(7)
    assert agent.progress(), "each step looks after what the agent cannot take back any more"
    assert agent.take_news() == []
    assert agent.snapshot().said == 0
    agent.close()


def test_r12_a_dead_agent_keeps_no_word_that_it_will_not_hear() -> None:
    agent = World().producer()
    agent.grant(7)
    assert agent.snapshot().said == 1
    agent.die()
    agent.grant(8)
    assert agent.snapshot().said == 0


def test_a_turn_that_comes_late_is_told_and_one_that_was_called_for_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    lags: list[float] = []
    agent = LeaseAgent(
        CONFIG, "engine", lambda own: MemoryTransport(MemoryNetwork(), own), MemoryCards({}), late=lags.append
    )
    for pause in ("POLL_S", "READING_POLL_S"):
        monkeypatch.setattr(loop, pause, 3600.0)
    agent.start()
    agent.untrack("r")
    agent.ask(lambda peer: peer.incarnation).result(5)
    assert lags == []
    monkeypatch.setattr(loop, "POLL_S", 0.001)
    agent.untrack("r")
    wait_until(lambda: len(lags) > 3)
    agent.close()
    assert all(0 <= lag < 5 for lag in lags)


def test_a_thread_that_is_held_up_is_late_by_the_time_beyond_its_pause() -> None:
    """Half a second passes, by this clock, whenever it is looked at."""
    lags: list[float] = []
    transport = MemoryNetwork()
    agent = LeaseAgent(
        CONFIG,
        "engine",
        lambda own: MemoryTransport(transport, own),
        MemoryCards({}),
        clock=(number / 2 for number in itertools.count(20)).__next__,
        late=lags.append,
    )
    agent.start()
    wait_until(lambda: len(lags) > 3)
    agent.close()
    assert lags[:3] == pytest.approx([0.5 - loop.POLL_S] * 3)


def test_whoever_watches_is_called_after_each_turn_with_what_is_true_then() -> None:
    world = World()
    p = world.producer()
    watched: list[tuple[float, int]] = []
    p.watch_by(lambda peer, now: watched.append((now, peer.lessor.counts["grants"])))
    p.turn(100.0)
    p.grant(7)
    p.turn(100.1)
    assert watched == [(100.0, 0), (100.1, 1)]


def test_threads_that_ask_a_dead_agent_at_once_are_all_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread takes a question while this one is about to."""
    questions = OpenQuestions(lambda: 0.0)
    questions.close()

    class TakenByAnother(deque[Any]):
        def __len__(self) -> int:
            return super().__len__() + 1

    monkeypatch.setattr(questions, "_asked", TakenByAnother())
    with pytest.raises(AgentGone):
        questions.ask(lambda peer: peer.incarnation).result(0)


def test_a_turn_answers_no_more_than_one_long_question() -> None:
    world = World()
    agent = world.producer()

    def long_question(peer: Peer) -> int:
        world.now += 1.0
        return peer.incarnation

    asked = [agent.ask(long_question) for _ in range(3)]
    for answered in (1, 2, 3):
        agent.turn(world.now)
        assert sum(answer.done() for answer in asked) == answered
