"""Producers and consumers under every fault that the model knows: S3, S4, L1, L2, L3 and R12 hold after every tick.

`KVLEASE_FUZZ=5000` plays that many scripts of chance instead of the few of `make check`.
"""

import os
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pair_model import Weather, World
from pair_witness import Strict, converge

from kvlease.protocol import lessee, lessor
from kvlease.protocol.messages import Ack, Bye, Gone, Hello, Renew, Welcome

FUZZ = int(os.environ.get("KVLEASE_FUZZ", "0"))
BUDGET = settings(
    max_examples=FUZZ or 60,
    derandomize=not FUZZ,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
CLIMATES = (
    Weather(),
    Weather(delay_s=0.3),
    Weather(repeat=0.5),
    Weather(repeat=0.5, delay_s=0.3),
    Weather(loss=0.2, delay_s=0.1),
    Weather(loss=0.5, repeat=0.5, delay_s=3.0),
    Weather(loss=1.0),
)
NAPS_S = (0.3, 1.0, 2.5, 4.0)
DURATIONS_S = (0.05, 0.1, 0.3, 0.6, 1.0, 2.5, 6.0, 10.0)
USUAL = ("prefill", "request", "request", "finish", "sibling", "run", "run")
FAULTS = (
    "weather",
    "run",
    "freeze_consumer",
    "freeze_producer",
    "stall",
    "crash_consumer",
    "shut_down_consumer",
    "crash_producer",
    "restart_producer",
    "producer_is_told_of_a_death",
    "consumer_is_told_of_a_death",
    "read_by_other",
)
ECHO = ("echo",)
KINDS = (Hello, Welcome, Renew, Ack, Gone, Bye)
Action = tuple[str, int, int]


def perform(world: World, action: Action) -> None:
    name, a, b = action
    p, d = a % len(world.producers), b % len(world.consumers)
    producer, consumer = world.producers[p], world.consumers[d]
    match name:
        case "prefill":
            world.prefill(p)
        case "request":
            world.request(d, a % 4)
        case "sibling":
            world.request(d, a % 4, sibling=True)
        case "finish":
            world.finish(d, a)
        case "run":
            world.run(DURATIONS_S[a % len(DURATIONS_S)])
        case "weather":
            world.network.weather = CLIMATES[a % len(CLIMATES)]
        case "freeze_consumer":
            world.freeze(consumer, NAPS_S[a % len(NAPS_S)])
        case "freeze_producer":
            world.freeze(producer, NAPS_S[b % len(NAPS_S)])
        case "stall":
            consumer.stalled_until = world.now + 3 * NAPS_S[a % len(NAPS_S)]
        case "crash_consumer":
            world.restart_consumer(d, seen=a % 2 == 0)
        case "shut_down_consumer":
            world.shut_down_consumer(d)
        case "crash_producer":
            world.crash(producer, seen=b % 2 == 0)
        case "restart_producer":
            world.restart_producer(p)
        case "producer_is_told_of_a_death":
            world.report_lost(producer, consumer)
        case "consumer_is_told_of_a_death":
            world.report_lost(consumer, producer)
        case "read_by_other":
            world.read_by_other(a)
        case "echo":
            world.network.echo(world.now, KINDS[a % len(KINDS)], b)
        case _:
            raise AssertionError(name)


def play(seed: int, script: list[Action]) -> None:
    # Sessions without leases end sooner than in life, only so that a script takes less time to play.
    with patch.object(lessee, "IDLE_S", 5.0), patch.object(lessor, "SESSION_IDLE_S", 8.0):
        world = World(seed, Strict())
        for action in script:
            perform(world, action)
        converge(world)


NUMBERS = st.integers(0, 7)
SCRIPTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(USUAL), NUMBERS, NUMBERS),
        st.tuples(st.sampled_from(FAULTS), NUMBERS, NUMBERS),
        st.tuples(st.sampled_from((*USUAL, *ECHO)), NUMBERS, NUMBERS),
    ),
    min_size=20,
    max_size=60,
)


@BUDGET
@given(st.integers(0, 2**32), SCRIPTS)
def test_whatever_goes_wrong(seed: int, script: list[Action]) -> None:
    play(seed, script)


BEGIN: list[Action] = [("prefill", 0, 0), ("request", 0, 0), ("run", 4, 0)]


def test_s4_a_late_bye_does_not_end_the_session_opened_after_it() -> None:
    idle: list[Action] = [("finish", 0, 0), ("run", 7, 0)]
    play(0, [*BEGIN, *idle, *BEGIN, ("echo", KINDS.index(Bye), 0), ("run", 4, 0)])


def test_s4_a_late_hello_after_a_false_report_of_death_opens_no_session_that_the_consumer_trusts() -> None:
    forgotten: list[Action] = [("producer_is_told_of_a_death", 0, 0), ("run", 3, 0)]
    play(0, [*BEGIN, *forgotten, ("echo", KINDS.index(Hello), 0), ("run", 6, 0)])


def test_l3_a_consumer_that_slept_through_a_lapse_states_its_claims_again() -> None:
    play(0, [*BEGIN, ("freeze_consumer", 2, 0), ("run", 6, 0)])


def test_r24_two_consumers_of_one_lease_do_not_free_under_each_other() -> None:
    both: list[Action] = [("request", 0, 1), ("run", 4, 0)]
    late: list[Action] = [("echo", KINDS.index(Renew), which) for which in range(60)]
    play(0, [*BEGIN, *both, ("finish", 0, 0), *late, ("run", 5, 0), *late, ("finish", 0, 1), ("run", 5, 0)])
