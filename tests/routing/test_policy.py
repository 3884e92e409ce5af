"""The policy: how soon a request is sent again, and how many retries all requests may make."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.errors import ConfigError
from kvlease.routing.policy import RetryBudget, RetryPolicy, TimeLimits


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 10_000), st.integers(0, 99), st.floats(0.001, 1.0), st.floats(1.0, 60.0))
def test_no_retry_waits_longer_than_the_most(retry: int, seed: int, base_s: float, max_s: float) -> None:
    policy = RetryPolicy(backoff_base_s=base_s, backoff_max_s=max_s)
    delay_s = policy.delay_s(retry, Random(seed))
    assert 0.0 <= delay_s <= min(max_s, base_s * 2.0 ** min(retry, 50))
    assert retry > 1 or delay_s == 0.0


def test_the_wait_is_drawn_from_twice_as_much_each_time() -> None:
    policy = RetryPolicy(backoff_base_s=0.1, backoff_max_s=0.5)
    most = [max(policy.delay_s(retry, Random(seed)) for seed in range(200)) for retry in (1, 2, 3, 4, 5, 6)]
    assert most == [0.0, *(pytest.approx(each, rel=0.1) for each in (0.1, 0.2, 0.4, 0.5, 0.5))]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefill_attempts", 0),
        ("decode_attempts", -1),
        ("backoff_max_s", float("nan")),
        ("cuts", 0),
        ("retry_ratio", -0.1),
        ("retry_reserve", float("inf")),
    ],
)
def test_an_impossible_policy_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} = .* is not allowed"):
        RetryPolicy(**{name: value})  # type: ignore[arg-type]


def test_the_longest_wait_is_no_shorter_than_the_first() -> None:
    with pytest.raises(ConfigError, match=r"backoff_max_s = 0\.01 is less than"):
        RetryPolicy(backoff_max_s=0.01)


def test_every_phase_has_a_time() -> None:
    with pytest.raises(ConfigError, match="connect_s = 0 is not allowed"):
        TimeLimits(connect_s=0)


# -- the budget of all -------------------------------------------------------------------------------------------------


def test_retries_are_a_share_of_the_requests() -> None:
    budget = RetryBudget(RetryPolicy(retry_reserve=10, retry_ratio=0.25, retry_floor_per_s=0.0), 0.0)
    assert [budget.take(0.0) for _ in range(11)] == [True] * 10 + [False]
    for _ in range(8):
        budget.begun(0.0)
    assert [budget.take(9.0) for _ in range(3)] == [True, True, False]


def test_a_router_with_few_requests_can_retry_too() -> None:
    budget = RetryBudget(RetryPolicy(retry_reserve=3, retry_floor_per_s=2.0), 0.0)
    assert [budget.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [budget.take(1.0) for _ in range(3)] == [True, True, False]
    assert budget.left(1000.0) == 3.0, "and no more than the reserve"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["begun", "take"]), st.floats(0.0, 5.0)), max_size=60))
def test_the_budget_is_never_exceeded(events: list[tuple[str, float]]) -> None:
    policy = RetryPolicy(retry_reserve=5, retry_ratio=0.5, retry_floor_per_s=1.0)
    budget, now, begun, taken = RetryBudget(policy, 0.0), 0.0, 0, 0
    for event, pause_s in events:
        now += pause_s
        if event == "begun":
            budget.begun(now)
            begun += 1
        else:
            taken += budget.take(now)
        assert taken <= 5 + 0.5 * begun + now + 1e-6
        assert 0.0 <= budget.left(now) <= 5.0


def test_a_clock_that_stands_still_or_goes_back_adds_nothing() -> None:
    budget = RetryBudget(RetryPolicy(retry_reserve=1), 10.0)
    assert budget.take(10.0)
    assert not budget.take(1.0)
    assert not budget.take(10.0)
