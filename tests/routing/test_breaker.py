"""The breaker of an engine: when it opens, and how it is tried again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.errors import ConfigError
from kvlease.routing.breaker import BREAKER, BreakerEvent, BreakerSettings, BreakerState, CircuitBreaker
from kvlease.routing.failures import FAILURES, EngineFailure

F = EngineFailure
SETTINGS = BreakerSettings(failures=3, open_s=2.0, open_max_s=7.0)


def opened(now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker(SETTINGS)
    for _ in range(SETTINGS.failures):
        breaker.failed(now, F.CUT, trial=False)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_a_row_of_failures_opens_it() -> None:
    breaker = CircuitBreaker(SETTINGS)
    breaker.failed(0.0, F.CUT, trial=False)
    breaker.failed(0.0, F.BUSY, trial=False)
    breaker.answered()
    breaker.failed(0.0, F.CUT, trial=False)
    breaker.failed(0.0, F.ERROR, trial=False)
    assert (breaker.state, breaker.opened_at) == (BreakerState.CLOSED, None)
    breaker.failed(5.0, F.ERROR, trial=False)
    assert (breaker.state, breaker.opened_at) == (BreakerState.OPEN, 5.0)
    assert not breaker.lets(5.0)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([failure for failure, rule in FAILURES.items() if not rule.opens]), max_size=50))
def test_errors_by_themselves_never_open_it(failures: list[EngineFailure]) -> None:
    """vLLM gives 500 to some mistakes of clients: one client could shut all engines."""
    breaker = CircuitBreaker(SETTINGS)
    for failure in failures:
        breaker.failed(0.0, failure, trial=False)
        assert breaker.lets(0.0)


def test_a_refusal_is_an_answer() -> None:
    breaker = CircuitBreaker(SETTINGS)
    for _ in range(5):
        breaker.failed(0.0, F.CUT, trial=False)
        breaker.failed(0.0, F.CUT, trial=False)
        breaker.failed(0.0, F.REFUSED, trial=False)
    assert breaker.state is BreakerState.CLOSED


def test_one_call_tries_an_engine_that_was_shut() -> None:
    breaker = opened()
    assert breaker.lets(2.0)
    assert breaker.begun()
    assert not breaker.lets(2.0)
    assert not breaker.begun()
    breaker.answered()
    assert breaker.lets(2.0)


def test_each_trial_that_fails_doubles_the_time() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(4):
        start = now
        while not breaker.lets(now):
            now += 0.5
        waits.append(now - start)
        assert breaker.begun()
        breaker.failed(now, F.UNREACHABLE, trial=True)
    assert waits == [2.0, 4.0, 7.0, 7.0]
    assert breaker.opened_at == 0.0, "since it opened, it never closed"


def test_a_trial_whose_client_left_says_nothing() -> None:
    breaker = opened()
    assert breaker.begun()
    breaker.abandoned(trial=True)
    assert breaker.lets(2.0)
    assert breaker.begun()


def test_a_trial_that_gets_a_500_comes_from_an_engine_that_lives() -> None:
    breaker = opened()
    assert breaker.begun()
    breaker.failed(2.0, F.ERROR, trial=True)
    assert breaker.state is BreakerState.CLOSED


def test_what_was_sent_before_decides_nothing_but_an_answer_closes_it() -> None:
    breaker = opened()
    breaker.failed(1.0, F.CUT, trial=False)
    assert breaker.lets(2.0), "its time is no longer for that"
    assert breaker.begun()
    breaker.failed(2.0, F.CUT, trial=False)
    assert not breaker.lets(9.0), "the trial is under way"
    breaker.answered()
    assert breaker.lets(2.0)


def test_good_health_lets_it_be_tried_at_once() -> None:
    breaker = opened()
    breaker.hope()
    assert breaker.lets(0.0)
    assert breaker.state is BreakerState.OPEN


EVENTS = st.sampled_from(["begun", "answered", "abandoned", "hope", *F])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.booleans()), max_size=60))
def test_whatever_happens_it_goes_by_its_table_and_opens_again(events: list[tuple[str, bool]]) -> None:
    breaker = CircuitBreaker(SETTINGS)
    for now, (event, trial) in enumerate(events):
        match event:
            case "begun":
                breaker.begun()
            case "answered":
                breaker.answered()
            case "abandoned":
                breaker.abandoned(trial)
            case "hope":
                breaker.hope()
            case _:
                breaker.failed(float(now), F(event), trial)
        assert (breaker.opened_at is None) is (breaker.state is BreakerState.CLOSED)
        if breaker.state is not BreakerState.TRYING:
            assert breaker.lets(now + SETTINGS.open_max_s)


def test_its_table_leads_everywhere_and_back() -> None:
    assert {state for state, _ in BREAKER} == set(BREAKER.values()) == set(BreakerState)
    assert {event for _, event in BREAKER} == set(BreakerEvent)


@pytest.mark.parametrize(
    ("open_s", "open_max_s"), [(-1.0, 1.0), (0.0, 1.0), (2.0, 1.0), (1.0, float("nan")), (1.0, float("inf"))]
)
def test_an_impossible_breaker_is_refused(open_s: float, open_max_s: float) -> None:
    with pytest.raises(ConfigError, match="open_s = "):
        BreakerSettings(open_s=open_s, open_max_s=open_max_s)
    with pytest.raises(ConfigError, match="failures = 0"):
        BreakerSettings(failures=0)
