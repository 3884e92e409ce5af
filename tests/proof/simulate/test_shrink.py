"""The shrinker, on made-up runs: it leaves the least that fails, and stops after the runs that it may play."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from proof.promises.safety import Violation
from proof.simulate.kinds import FaultKind, PlannedFault
from proof.simulate.plan import Plan, UserRequest, draw_plan
from proof.simulate.run import RunOutcome
from proof.simulate.shrink import shrink


def plan_of(faults: int, requests: int) -> Plan:
    return replace(
        draw_plan(0),
        requests=tuple(UserRequest(float(i), "p0", ("d0",), 1) for i in range(requests)),
        faults=tuple(PlannedFault(FaultKind.LOSS, float(i), 1.0, "p0", "d0", 0.5) for i in range(faults)),
    )


def outcome(rule: str | None) -> RunOutcome:
    violation = None if rule is None else Violation(rule, "made up")
    return RunOutcome(7, violation, 0, 0.0, "", Counter(), ())


class Game:
    """A stand-in for runs: `fails` names the broken promise by the numbers of the faults and requests that are left."""

    def __init__(self, fails: Callable[[set[int], set[int]], str | None]) -> None:
        self.plays = 0
        self._fails = fails

    def __call__(self, plan: Plan) -> RunOutcome:
        self.plays += 1
        assert plan.kept_faults is not None
        assert plan.kept_requests is not None
        return outcome(self._fails(set(plan.kept_faults), set(plan.kept_requests)))


@pytest.mark.parametrize(
    ("faults", "requests"),
    [(set(), {0}), ({5}, {3}), ({0, 19}, {9}), ({2, 3, 11, 17}, {0, 1, 8}), (set(range(20)), {4})],
)
def test_what_is_needed_is_left_and_nothing_else(faults: set[int], requests: set[int]) -> None:
    game = Game(lambda f, r: "S1" if faults <= f and requests <= r else None)
    shrunk = shrink(plan_of(20, 10), "S1", game)
    assert (set(shrunk.faults), set(shrunk.requests)) == (faults, requests)
    assert shrunk.minimal
    assert shrunk.runs == game.plays <= 400


def test_fewer_requests_may_need_fewer_faults() -> None:
    game = Game(lambda f, r: "S1" if {1} <= f and (len(r) < 3 or {1, 2, 3} <= f) and 0 in r else None)
    shrunk = shrink(plan_of(8, 8), "S1", game)
    assert (shrunk.faults, shrunk.requests) == ((1,), (0,))


def test_another_broken_promise_is_another_failure() -> None:
    game = Game(lambda f, _: "S1" if {1, 2} <= f else "L1")
    assert shrink(plan_of(8, 1), "S1", game).faults == (1, 2)


def test_what_is_left_is_minimal_even_where_more_faults_would_hide_it() -> None:
    """A plan fails with an odd number of faults, 3 among them: leaving one fault out never gives a smaller failure."""
    fails: Callable[[set[int], set[int]], str | None] = lambda f, _: "L2" if 3 in f and len(f) % 2 else None  # noqa: E731
    shrunk = shrink(plan_of(9, 1), "L2", Game(fails))
    assert fails(set(shrunk.faults), set()) == "L2"
    for fault in shrunk.faults:
        assert fails(set(shrunk.faults) - {fault}, set()) is None


def test_it_stops_when_it_has_had_its_runs() -> None:
    game = Game(lambda f, _: "S1" if {0, 7, 13, 19} <= f else None)
    shrunk = shrink(plan_of(20, 10), "S1", game, max_runs=10)
    assert game.plays == 10
    assert not shrunk.minimal
    assert shrunk.outcome.violation is not None


def test_what_does_not_fail_is_not_cut_down() -> None:
    with pytest.raises(ValueError, match="does not break S1"):
        shrink(plan_of(3, 3), "S1", Game(lambda *_: "L1"))
