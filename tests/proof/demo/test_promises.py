"""The promises that the demo judges, and the figures that break each of them."""

from typing import Any

import pytest

from proof.demo.outcome import SCENARIOS, ActOutcome, Answers, Counts, ScenarioName
from proof.demo.promises import PROMISES, Judgement, judge
from proof.realengines.spec import Connector

ALL_RIGHT = Answers(right=6, wrong=0, failed=0, statuses={200: 6})
ALL_WRONG = Answers(right=0, wrong=6, failed=0, statuses={200: 6})


def outcome(scenario: ScenarioName, connector: Connector = "kvlease", **figures: Any) -> ActOutcome:
    return ActOutcome(scenario, connector, 6.0, **figures)


def good(scenario: ScenarioName) -> ActOutcome:
    return outcome(
        scenario,
        answers=ALL_RIGHT,
        counts=Counts(read=6),
        freed_after_s=0.3,
        again=0,
    )


def broken(*outcomes: ActOutcome) -> list[str]:
    return [verdict.promise.figure for verdict in judge(outcomes) if verdict.kept is False]


def test_every_scenario_has_a_promise() -> None:
    assert {promise.scenario for promise in PROMISES} == set(SCENARIOS)


def test_nothing_is_broken_when_everything_is_right() -> None:
    assert broken(*map(good, SCENARIOS)) == []


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("answers", [ALL_WRONG, Answers(right=5, wrong=0, failed=1, statuses={200: 5, 500: 1})])
def test_one_wrong_or_failed_answer_breaks_a_promise(scenario: ScenarioName, answers: Answers) -> None:
    figures: dict[str, Any] = {"counts": Counts(read=6), "freed_after_s": 0.3, "again": 0}
    assert len(broken(outcome(scenario, answers=answers, **figures))) == 1


@pytest.mark.parametrize("scenario", ["long-step", "queue"])
def test_one_lost_lease_breaks_a_promise(scenario: ScenarioName) -> None:
    assert len(broken(outcome(scenario, answers=ALL_RIGHT, counts=Counts(leases_lost=1)))) == 1


def test_one_prompt_that_is_prefilled_twice_for_a_failover_breaks_a_promise() -> None:
    assert len(broken(outcome("failover", answers=ALL_RIGHT, again=1))) == 1


def test_leases_may_be_lost_in_a_stall_as_long_as_no_answer_is_wrong() -> None:
    assert broken(outcome("stall", answers=ALL_RIGHT, counts=Counts(leases_lost=6))) == []


def test_all_leases_may_be_computed_again_where_their_memory_was_reused() -> None:
    assert broken(outcome("stall", answers=ALL_RIGHT, counts=Counts(read=0))) == []


@pytest.mark.parametrize("scenario", ["stall-free", "crash"])
def test_one_prefill_that_is_computed_again_while_nobody_needed_its_memory_breaks_a_promise(
    scenario: ScenarioName,
) -> None:
    found = outcome(scenario, answers=ALL_RIGHT, counts=Counts(read=5), freed_after_s=0.3)
    assert len(broken(found)) == 1


@pytest.mark.parametrize(("freed_after_s", "count"), [(1.99, 0), (2.0, 1)])
def test_the_crash_has_a_limit(freed_after_s: float, count: int) -> None:
    found = outcome("crash", answers=ALL_RIGHT, counts=Counts(read=6), freed_after_s=freed_after_s)
    assert len(broken(found)) == count


def test_a_figure_that_was_not_taken_is_a_promise_not_kept() -> None:
    assert len(broken(outcome("crash"))) == 3


def test_stock_promises_nothing() -> None:
    verdicts = judge([outcome("stall", "stock", answers=ALL_WRONG)])
    assert [verdict.kept for verdict in verdicts] == [None]


def test_scenarios_that_were_not_played_are_not_judged() -> None:
    assert judge([]) == []
    assert {verdict.promise.scenario for verdict in judge([good("queue")])} == {"queue"}


def test_stock_has_no_second_use_after_the_crash() -> None:
    stock = outcome("crash", "stock", freed_after_s=24.8)
    verdicts = judge([stock, good("crash")])
    assert verdicts == [Judgement(p, stock, good("crash")) for p in PROMISES if p.scenario == "crash"]
    assert [verdict.promise.measure(stock) for verdict in verdicts] == [24.8, None, None]
