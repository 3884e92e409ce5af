"""Engines that speak the protocol wrongly harm nobody else's lease (S4, R12, R14)."""

import logging
import random

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from kvlease.agent.core import AgentCore
from kvlease.logs import OncePerPeriod
from kvlease.protocol import Endpoint, Fingerprint, LeaseRef
from kvlease.protocol.messages import VERSION
from kvlease.testing.network import MemoryTransport
from proof.hostile.choices import Choices
from proof.hostile.neighbourhood import IDLE_S, MAX_SESSIONS, Neighbourhood
from proof.hostile.peer import MOVES, Hostiles, play
from proof.hostile.targets import conditions
from proof.hostile.wire import body

pytestmark = pytest.mark.long

SOME = settings(derandomize=True, database=None, deadline=None, max_examples=12, stateful_step_count=40)
BAD = 0xBAD
ALONE: Endpoint = ("alone.example", 5600)


@pytest.mark.parametrize("seed", range(25))
def test_s4_hostile_engines_take_no_lease_from_honest_ones(seed: int) -> None:
    with conditions():
        play(random.Random(seed).randbytes(2000))


class HostilePlay(RuleBasedStateMachine):
    """The moves of `hostile_peer` one by one, so that a failure is cut down to the moves that it takes."""

    def __init__(self) -> None:
        super().__init__()
        self._conditions = conditions()
        self._conditions.__enter__()
        self.world = Neighbourhood()
        self.hostiles = Hostiles(self.world, Choices(b""))

    @rule(move=st.sampled_from(MOVES), how=st.binary(max_size=24))
    def move(self, move: object, how: bytes) -> None:
        assert callable(move)
        self.hostiles.choices = Choices(how)
        move(self.hostiles)

    @rule(ticks=st.integers(1, 30))
    def time_passes(self, ticks: int) -> None:
        self.world.run(ticks * 0.08)

    @precondition(lambda self: self.hostiles.peers)
    @invariant()
    def counted(self) -> None:
        self.world.tick()
        self.hostiles.all_malformed_was_counted()

    def teardown(self) -> None:
        try:
            self.world.wind_down()
        finally:
            self._conditions.__exit__(None, None, None)


def test_s4_any_moves_of_hostile_engines() -> None:
    run_state_machine_as_test(HostilePlay, settings=SOME)


# -- each kind is counted, exactly -------------------------------------------------------------------------------


def stranger_to(engine: AgentCore, world: Neighbourhood, incarnation: int = BAD) -> MemoryTransport:
    """The transport of somebody who is connected to the engine, and whom nobody knows."""
    stranger = MemoryTransport(world.network, incarnation)
    stranger.connect(engine.incarnation, engine.address)
    return stranger


class Alone:
    """One honest engine without a life of its own, and one stranger."""

    def __init__(self) -> None:
        self.world = Neighbourhood()
        self.engine = self.world.engine("alone", ALONE)
        self.stranger = stranger_to(self.engine, self.world)

    def say(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.stranger.send(self.engine.incarnation, payload)
        self.engine.turn(self.world.now)

    def counted(self) -> dict[str, int]:
        """The counts of the engine since the beginning that are not 0, by part and name, but for its messages."""
        report = self.engine.report()
        messages = ("sent.", "received.", "bytes_")
        agent = {name: n for name, n in report.agent.items() if not name.startswith(messages)}
        parts = {"p": report.lessor, "d": report.lessee, "agent": agent}
        return {f"{part}.{name}": n for part, counts in parts.items() for name, n in counts.items() if n}


def hello(seq: int, incarnation: int = BAD, version: int = VERSION, at: int = BAD) -> bytes:
    return body(1, version, incarnation, seq, "stranger", at.to_bytes(8, "little"))


OPENED = {"p.sessions_opened": 1}


@pytest.mark.parametrize(
    ("payloads", "counted"),
    [
        ([hello(1)], OPENED),
        ([hello(1, incarnation=7)], {"p.refused.hello_sender": 1}),
        ([hello(1, version=VERSION + 1)], {"p.refused.hello_version": 1}),
        ([hello(5), hello(5), hello(4)], OPENED | {"p.late.stale": 2}),
        ([body(3, 1, [], [], 1)], {"p.late.no_session": 1}),
        ([hello(1), body(3, 2, [], [], 99)], OPENED | {"p.late.no_session": 1}),
        ([body(7, 3)], {"p.late.stale": 1}),
        ([body(7)], {"d.late.no_session": 1}),
        ([body(2, 1, 2, 3, 4, 5, 6, 7, 8)], {"d.late.no_session": 1}),
        ([body(4, 1, [1, 2, 3], True)], {"d.late.no_session": 1}),
        ([body(5, [1, 2, 3])], {"d.late.no_session": 1}),
        ([body(6)] * 100, {"d.late.no_session": 100}),
        ([hello(1), body(3, 2, [], [], 1), body(3, 2, [], [], 1)], OPENED | {"p.renewals": 1, "p.late.stale": 1}),
        ([b"junk", b"", b"HB:request"], {"agent.refused.magic": 3}),
        ([body(99), body(3, -1, [], [])], {"agent.refused.body": 2}),
        ([b"KVL\x02"], {"agent.refused.encoding": 1}),
        ([b"K" * 9000], {"agent.refused.size": 1}),
    ],
)
def test_r14_each_kind_of_wrong_message_is_counted(payloads: list[bytes], counted: dict[str, int]) -> None:
    with conditions():
        alone = Alone()
        alone.say(*payloads)
        assert alone.counted() == counted


def test_r14_tokens_that_are_not_held_are_counted() -> None:
    with conditions():
        alone = Alone()
        alone.say(hello(1))
        number = alone.engine.peer.lessor.sessions[BAD].number
        alone.say(body(3, 2, [1, 2, 3], [4, 5], number), body(3, 3, list(range(800)), [], number))
        assert alone.counted() == OPENED | {
            "p.renewals": 2,
            "p.late.claim": 803,
            "p.drops": 2,
            "p.late.drop": 2,
        }


def test_r14_tokens_that_are_not_tracked_are_counted() -> None:
    with conditions():
        alone = Alone()
        alone.world.served["stranger.example", 1] = alone.world.served[ALONE]
        alone.engine.track("r", LeaseRef(BAD, 1, 0, 1500, Fingerprint(1, 0)), ("stranger.example", 1))
        alone.engine.turn(alone.world.now)
        alone.say(body(5, [8, 9]), body(2, VERSION, BAD, 1, 1, 1, 1, 1, 1), body(4, 1, [], True))
        # The lease is lost, since the card that was found is another engine's.
        assert alone.counted() == {"d.tracked": 1, "d.lost": 1, "d.late.token": 2, "d.late.stale": 2}


def test_r12_strangers_beyond_the_bound_are_counted_and_not_remembered() -> None:
    with conditions():
        alone = Alone()
        for own in range(BAD + 1, BAD + 1 + MAX_SESSIONS + 20):
            stranger = stranger_to(alone.engine, alone.world, own)
            stranger.send(alone.engine.incarnation, hello(1, own, at=own))
        alone.say()
        assert len(alone.engine.peer.lessor.sessions) == MAX_SESSIONS
        assert alone.counted() == {"p.sessions_opened": MAX_SESSIONS, "p.refused.too_many_sessions": 20}


def test_s4_who_learns_the_token_of_a_lease_cannot_end_it_under_its_consumer() -> None:
    with conditions():
        world = Neighbourhood()
        world.leak(0)
        (token,) = world.shared
        lease = world.kept[token]
        stranger = stranger_to(lease.producer, world)
        stranger.send(lease.producer.incarnation, hello(1))
        world.tick()
        lessor = lease.producer.peer.lessor
        number = lessor.sessions[BAD].number
        for payload in (body(3, 2, [], [token], number), body(3, 3, [token], [], number)):
            stranger.send(lease.producer.incarnation, payload)
        world.tick()
        assert lease.consumer is not None
        assert lessor.leases[token].claims == (lease.consumer.incarnation, BAD)
        stranger.send(lease.producer.incarnation, body(3, 4, [], [token], number))
        world.run(1.0)
        stranger.send(lease.producer.incarnation, body(7, 5))
        world.run(1.0)


# -- a flood -----------------------------------------------------------------------------------------------------


def test_r13_a_flood_of_wrong_messages_makes_a_few_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with conditions():
        alone = Alone()
    for logger in map(logging.getLogger, list(logging.root.manager.loggerDict)):
        if any(isinstance(bounded, OncePerPeriod) for bounded in logger.filters):
            # A fresh filter forgets lines that another test logged a moment ago.
            monkeypatch.setattr(logger, "filters", [OncePerPeriod()])
    caplog.set_level(logging.INFO, logger="kvlease")
    alone.say(*[b"junk", b"KVL\x02", body(99)] * 1000)
    for i in range(200):
        alone.say(hello(2 * i + 1), body(7, 2 * i + 2))
    ours = [record for record in caplog.records if record.name.startswith("kvlease")]
    assert 1 <= len(ours) <= 5


def test_r12_strangers_that_come_and_go_for_long_leave_nothing_behind() -> None:
    """R12: incarnations that each say Hello, claim a token that they made up, and go, leave nothing behind."""
    with conditions():
        world = Neighbourhood()
        engine = world.engines[0]
        for n in range(1, 300):
            stranger = stranger_to(engine, world, BAD + n)
            stranger.send(engine.incarnation, hello(1, BAD + n, at=BAD + n))
            stranger.send(engine.incarnation, body(3, 2, [n], [n], n))
            world.tick()
            stranger.close()
        world.run(IDLE_S)
        world.wind_down()
