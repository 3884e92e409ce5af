"""An engine of the fleet by itself, between a policy and an observer that only take notes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kvlease.agent import core, loop
from kvlease.engine.unread import CHANCES
from kvlease.fleet.context import FleetContext
from kvlease.fleet.engines.decode import Consumer
from kvlease.fleet.engines.prefill import Producer
from kvlease.fleet.leasing import ReadVerdict
from kvlease.fleet.policies import agents
from kvlease.fleet.records import EngineLife, FleetLease, FleetRequest, RequestStage
from kvlease.fleet.settings import Fleet

FLEET = Fleet(producers=1, consumers=1, prefill_fixed_s=0.0, prefill_tokens_per_s=1000.0)


class Notes:
    """A policy that accepts every read and never frees anything, and the observer of both sides."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def started(self, engine: Any) -> None:
        self.heard.append(("started", engine.side))

    def stalled(self, engine: Any, until: float, process: bool) -> None:
        self.heard.append(("stalled", engine.side, until, process))

    def died(self, engine: Any) -> None:
        self.heard.append(("died", engine.side))

    def granted(self, lease: FleetLease) -> None:
        self.heard.append(("granted", lease.tokens))

    def reused(self, lease: FleetLease) -> None:
        self.heard.append(("reused", lease.tokens))

    def wanted(self, request: FleetRequest, lease: FleetLease, consumer: Any) -> None:
        self.heard.append(("wanted", request.number, lease.tokens, consumer.index))

    def unwanted(self, request: FleetRequest, lease: FleetLease, consumer: Any) -> None:
        self.heard.append(("unwanted", request.number, lease.wanted, consumer.index))

    def data_in(self, lease: FleetLease) -> bool:
        self.heard.append(("data in", lease.tokens))
        return True

    def lost(self, *_: Any) -> bool:
        return False

    def verdict(self, _: FleetLease) -> ReadVerdict:
        return ReadVerdict.ACCEPTED

    def prefilled(self, request: FleetRequest) -> None:
        self.heard.append(("prefilled", request.number))

    def producer_died(self, victims: Sequence[FleetRequest]) -> None:
        self.heard.append(("victims", [request.number for request in victims]))

    def end(self, request: FleetRequest, how: str) -> None:
        self.heard.append(("end", request.number, how))

    def consumer_died(self, victims: Sequence[FleetRequest]) -> None:
        self.heard.append(("victims", [request.number for request in victims]))


def test_a_producer_tells_of_a_grant_before_the_request_goes_on() -> None:
    context, notes = FleetContext.begin(FLEET, 1), Notes()
    producer = Producer(context, 0, notes, notes)
    producer.start()
    producer.submit(FleetRequest(7, 0.0, prompt=2000, output=1))
    context.agenda.run()
    assert notes.heard == [("started", "producer"), ("granted", 2000), ("prefilled", 7)]
    assert context.agenda.now == 2.0
    assert [lease.producer for lease in producer.leases.values()] == [0]


def test_what_was_planned_for_a_life_is_void_in_the_next_one() -> None:
    context, notes = FleetContext.begin(FLEET, 1), Notes()
    producer = Producer(context, 0, notes, notes)
    producer.start()
    producer.submit(FleetRequest(0, 0.0, prompt=1000, output=1))
    context.agenda.run()
    (lease,) = producer.leases.values()
    producer.submit(FleetRequest(1, 0.0, prompt=1000, output=1))
    producer.at_step(lambda _: notes.heard.append(("a step of the dead",)), None)
    notes.heard.clear()
    producer.crash()
    producer.start()
    context.agenda.run()
    assert notes.heard == [("died", "producer"), ("victims", [1]), ("started", "producer")]
    assert lease.crashed
    assert not producer.life.over
    assert producer.pool.free == FLEET.producer_blocks


def test_a_lapsed_lease_is_whole_until_its_blocks_are_needed() -> None:
    context, notes = FleetContext.begin(FLEET, 1), Notes()
    producer = Producer(context, 0, notes, notes)
    producer.start()
    for number in range(2):
        producer.submit(FleetRequest(number, 0.0, prompt=1000 + number, output=1))
    context.agenda.run()
    first, second = producer.leases.values()
    for lease in (first, second):
        producer.lapse(lease, "expired", last=True)
    assert (producer.pool.free, context.books.held) == (FLEET.producer_blocks, 0)
    assert context.books.lapsed == first.blocks + second.blocks
    producer.revive(first)
    assert (producer.pool.free, context.books.held) == (FLEET.producer_blocks - first.blocks, first.blocks)
    notes.heard.clear()
    producer.submit(FleetRequest(2, 0.0, prompt=producer.pool.free * FLEET.block_tokens, output=1))
    assert notes.heard == [("reused", 1001)]
    assert (first.reused, second.reused, context.books.lapsed) == (False, True, 0)
    assert context.books.counts["lost_while_wanted"] == 1


@pytest.mark.parametrize(("chances", "outlives"), [(0, False), (8, True), (2, False)])
def test_a_lease_that_expired_unread_outlives_those_that_were_read(chances: int, outlives: bool) -> None:
    """Six prompts take all blocks once; the first one's lease expires, the rest is read."""
    fleet = replace(FLEET, producer_blocks=400, unread_chances=chances)
    context, notes = FleetContext.begin(fleet, 1), Notes()
    producer = Producer(context, 0, notes, notes)
    producer.start()
    for number in range(20):
        producer.submit(FleetRequest(number, 0.0, prompt=1000, output=1))
        context.agenda.run()
        (lease,) = producer.leases.values()
        if number == 0:
            unread = lease
        producer.lapse(lease, "released" if number else "expired", last=not number)
    assert unread.reused is not outlives


def test_a_consumer_reads_decodes_and_lets_go() -> None:
    context, notes = FleetContext.begin(FLEET, 1), Notes()
    consumer = Consumer(context, 0, notes, notes)
    consumer.start()
    request = FleetRequest(7, 0.0, prompt=1600, output=10)
    request.lease = FleetLease(1, EngineLife("producer", 0), blocks=100, tokens=1600)
    consumer.submit(request)
    context.agenda.run()
    wanted, data_in, unwanted = ("wanted", 7, 1600, 0), ("data in", 1600), ("unwanted", 7, False, 0)
    assert notes.heard == [("started", "consumer"), wanted, data_in, unwanted, ("end", 7, "right")]
    assert request.stage is RequestStage.ENDED
    assert (consumer.load, consumer.here) == (0, {})


def test_a_policy_hears_of_a_stall_and_of_how_much_stands_still() -> None:
    context, notes = FleetContext.begin(FLEET, 1), Notes()
    engines: list[Producer | Consumer] = [Producer(context, 0, notes, notes), Consumer(context, 0, notes, notes)]
    for engine in engines:
        engine.stall(5.0, process=False)
        engine.stall(6.0, process=True)
    stalls = [(5.0, False), (6.0, True)]
    assert notes.heard == [("stalled", side, *stall) for side in ("producer", "consumer") for stall in stalls]


def test_simulated_engines_give_as_many_chances_and_look_as_often_as_the_product() -> None:
    assert FLEET.unread_chances == CHANCES
    assert (FLEET.agent_poll_s, FLEET.agent_reading_poll_s) == (loop.POLL_S, loop.READING_POLL_S)
    assert FLEET.agent_connecting_poll_s == loop.CONNECTING_POLL_S
    assert (agents.READING_S, agents.CONNECTING_S) == (core.READING_S, core.CONNECTING_S)
