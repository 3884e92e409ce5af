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
DURATIONS_S = (0.05, 0.1, 0.3, 0.6, 1.0, 2.5, 6.0, 10.0)
USUAL = ("prefill", "request", "request", "finish", "sibling", "run", "run")
FAULTS = (
    "weather",
    "run",
    "freeze_consumer",
    "thaw_consumer",
    "freeze_producer",
    "thaw_producer",
    "stall",
    "crash_consumer",
    "shut_down_consumer",
    "crash_producer",
    "restart_producer",
    "producer_is_told_of_a_death",
    "consumer_is_told_of_a_death",
    "read_by_other",
    "echo",
    "echo",
)
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
            world.request(d, a)
        case "sibling":
            world.request(d, a, sibling=True)
        case "finish":
            world.finish(d, a)
        case "run":
            world.run(DURATIONS_S[a % len(DURATIONS_S)])
        case "weather":
            world.network.weather = CLIMATES[a % len(CLIMATES)]
        case "freeze_consumer" | "thaw_consumer":
            consumer.frozen = name == "freeze_consumer"
        case "freeze_producer" | "thaw_producer":
            producer.frozen = name == "freeze_producer" and producer.alive
        case "stall":
            consumer.stalled = a % 2 == 0
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
    ),
    min_size=1,
    max_size=60,
)


@BUDGET
@given(st.integers(0, 2**32), SCRIPTS)
def test_whatever_goes_wrong(seed: int, script: list[Action]) -> None:
    play(seed, script)
