"""A run as a whole: every request ends once, nothing is left, and the same seed gives the same outcome."""

import random
from dataclasses import replace

import msgspec
import pytest

from kvlease.errors import ConfigError
from kvlease.fleet.outcome import Cost, FleetOutcome
from kvlease.fleet.play import let_in, play
from kvlease.fleet.policies import Kvlease, Policy, side_by_side
from kvlease.fleet.settings import NO_FAULTS, Crash, Fleet, FleetFaults
from kvlease.fleet.simulated import SimulatedFleet
from kvlease.fleet.timeline import MOST_PARTS, Recorder
from kvlease.fleet.traffic.arrival import Arrival

SMALL = Fleet(
    producers=3,
    consumers=4,
    producer_blocks=1200,
    consumer_blocks=2500,
    consumer_seats=6,
    patience_s=20.0,
    abort_share=0.1,
    lost_share=0.02,
    takeover=True,
)
EVERYTHING = FleetFaults(
    producer_crashes_per_hour=60.0,
    consumer_crashes_per_hour=120.0,
    restart_s=10.0,
    producer_stalls_per_hour=120.0,
    consumer_stalls_per_hour=120.0,
    stall_s=15.0,
)
POLICIES = pytest.mark.parametrize("policy", side_by_side(), ids=lambda policy: policy.name)


def traffic(count: int, rate: float, seed: int = 5) -> list[Arrival]:
    chance, at, arrivals = random.Random(seed), 0.0, []
    for _ in range(count):
        at += chance.expovariate(rate)
        arrivals.append(Arrival(at, int(chance.expovariate(1 / 1500)) + 1, int(chance.expovariate(1 / 200)) + 1))
    return arrivals


def without_cost(outcome: FleetOutcome) -> FleetOutcome:
    return replace(outcome, cost=Cost(0.0, outcome.cost.events, 0.0))


@POLICIES
def test_every_request_ends_exactly_once_and_nothing_is_left(policy: Policy) -> None:
    """R12, L3: every request ends exactly once, and nothing is left."""
    simulated = SimulatedFleet(SMALL, policy, 7)
    let_in(simulated, traffic(1500, 10.0), EVERYTHING)
    simulated.context.agenda.run()
    books = simulated.context.books
    assert books.ends.total() == simulated.router.ended == books.arrived == 1500
    assert books.held == books.stranded == books.waiting == books.stranded_read == 0
    assert books.lease_ends.total() == books.counts["granted"] + books.counts["revived"]
    assert books.lapsed == sum(lease.blocks for producer in simulated.producers for lease in producer.lapsed.values())
    assert bool(books.lapsed) == bool(books.counts["revived"]) == (policy.kind == "kvlease")
    for producer in simulated.producers:
        assert producer.leases == {}
        assert producer.load == 0
        assert producer.pool.free == SMALL.producer_blocks
    for consumer in simulated.consumers:
        assert consumer.here == {}
        assert (consumer.load, *consumer.unoccupied) == (0, SMALL.consumer_seats, SMALL.consumer_blocks)
    assert books.counts["crashes"] > 3


@POLICIES
def test_wrong_answers_come_only_where_nobody_checks(policy: Policy) -> None:
    """R19: wrong answers come only under policies that check nothing."""
    outcome = play(SMALL, policy, traffic(1500, 10.0), EVERYTHING, seed=7)
    if policy.kind == "kvlease":
        assert outcome.requests.wrong == 0
        assert outcome.prefills.recomputed > 0
    assert sum(outcome.timeline.right) == outcome.requests.right
    assert sum(outcome.timeline.bytes) == outcome.traffic.bytes
    area = sum(outcome.timeline.held_blocks) * outcome.timeline.part_s
    assert area == pytest.approx(outcome.blocks.held_block_s)
    assert msgspec.json.decode(msgspec.json.encode(outcome))["policy"] == policy.name


@POLICIES
def test_equal_seeds_give_equal_outcomes(policy: Policy) -> None:
    one, other = (play(SMALL, policy, traffic(300, 10.0), EVERYTHING, seed=3) for _ in range(2))
    assert without_cost(one) == without_cost(other)


def test_faults_are_the_same_for_every_policy() -> None:
    outcomes = [play(SMALL, policy, traffic(600, 10.0), EVERYTHING, seed=3) for policy in side_by_side()]
    assert len({outcome.timeline.crashes[:50] for outcome in outcomes}) == 1
    assert len({outcome.crashes for outcome in outcomes}) == 1


def test_what_fits_into_no_engine_fails_at_once() -> None:
    fleet = replace(SMALL, abort_share=0.0, lost_share=0.0)
    outcome = play(fleet, side_by_side()[0], [Arrival(0.0, 16 * 1200 + 1, 1), Arrival(0.1, 16, 1)], NO_FAULTS, seed=1)
    assert (outcome.requests.failed, outcome.requests.right) == (1, 1)


def test_bad_input_is_named() -> None:
    policy = side_by_side()[0]
    with pytest.raises(ConfigError, match="request 1 is"):
        play(SMALL, policy, [Arrival(1.0, 1, 1), Arrival(0.5, 1, 1)], NO_FAULTS, seed=1)
    with pytest.raises(ConfigError, match="4 consumers"):
        play(SMALL, policy, [], FleetFaults(crashes=(Crash(0.0, "consumer", 4),)), seed=1)
    with pytest.raises(ConfigError, match="reuse"):
        replace(SMALL, reuse="random")  # type: ignore[arg-type]


def test_a_timeline_never_has_more_parts_than_can_be_shown() -> None:
    recorder = Recorder()
    recorder.spread(0.0, 10_000.0, (2.0, 0.0, 1.0))
    timeline = recorder.result()
    assert len(timeline.held_blocks) <= MOST_PARTS
    assert timeline.part_s == 16.0
    assert sum(timeline.held_blocks) * timeline.part_s == pytest.approx(20_000.0)


def test_no_event_is_planned_in_vain() -> None:
    """An agent whose turn is put off uses the call that it has planned. Others would fill the agenda for a minute."""
    fleet = replace(SMALL, abort_share=0.0, lost_share=0.0)
    outcome = play(fleet, Kvlease(), traffic(300, 10.0), NO_FAULTS, seed=3)
    assert outcome.requests.right == 300
    assert outcome.cost.events < 21 * 300
