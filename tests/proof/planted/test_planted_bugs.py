"""The simulator can fail: every planted bug is found, under a promise that it breaks, in the runs stated for it."""

import os
from pathlib import Path

import pytest

from kvlease.simulation.processes import in_processes
from proof.planted import PLANTED
from proof.planted import found as kept
from proof.simulate.fuzz import plan_for, plant
from proof.simulate.hunt import Hunt, Quarry, hunt_down
from proof.simulate.run import run
from proof.simulate.shrink import shrink

HUNTED = {name: bug.within_runs for name, bug in PLANTED.items() if bug.within_runs is not None}


@pytest.fixture(scope="module")
def quarries(request: pytest.FixtureRequest) -> dict[str, Quarry]:
    """The results of the hunts for all bugs that pytest is to test, by the bug's name; one process a core."""
    tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
    names = [str(test.callspec.params["name"]) for test in tests if test.originalname == "test_it_is_found"]
    hunts = [Hunt(name, 0, HUNTED[name]) for name in names]
    return {quarry.hunt.name: quarry for quarry in in_processes(hunt_down, hunts, len(os.sched_getaffinity(0)))}


@pytest.mark.sim
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", HUNTED)
def test_it_is_found(name: str, quarries: dict[str, Quarry]) -> None:
    bug, quarry = PLANTED[name], quarries[name]
    assert quarry.runs is not None, f"{name} was not found in {bug.within_runs} runs: {bug.what}"
    assert not quarry.strays, f"{name} breaks what it is not said to break: {quarry.strays}"


@pytest.mark.sim
@pytest.mark.parametrize("name", ["no_fence", "tracked_from_scheduling_only"])
def test_what_is_left_of_it_still_fails_and_not_without_any_one_fault(name: str) -> None:
    quarry = hunt_down(Hunt(name, 0, HUNTED[name]))
    assert quarry.runs is not None
    whole = plan_for(quarry.runs - 1, name)
    with plant(name):
        shrunk = shrink(whole, quarry.rule)
        again = run(whole.keeping(requests=shrunk.requests, faults=shrunk.faults))
        assert again.digest == shrunk.outcome.digest
        assert again.violation is not None
        assert again.violation.rule == quarry.rule
        for fault in shrunk.faults:
            fewer = whole.keeping(requests=shrunk.requests, faults=set(shrunk.faults) - {fault})
            violation = run(fewer).violation
            assert violation is None or violation.rule != quarry.rule


def test_nothing_is_planted_afterwards() -> None:
    for name in PLANTED:
        before = [getattr(owner, at) for owner, at, _ in PLANTED[name].replacements()]
        with plant(name):
            assert before != [getattr(owner, at) for owner, at, _ in PLANTED[name].replacements()]
        assert before == [getattr(owner, at) for owner, at, _ in PLANTED[name].replacements()]


def test_what_is_kept_of_hunts_is_kept_by_name_in_the_order_of_the_bugs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kept, "FILE", tmp_path / "found.json")
    kept.FILE.write_text('{"b": {"commit": "1", "runs": [1, null]}, "gone": {"commit": "1", "runs": [2]}}')
    kept.keep({"a": kept.Hunted("2", [3]), "b": kept.Hunted("2", [4, 5])}, {"a": 0, "b": 0, "c": 0})
    assert kept.found() == {"a": kept.Hunted("2", [3]), "b": kept.Hunted("2", [4, 5])}


def test_every_bug_was_found_within_what_is_stated_in_every_range_that_was_hunted() -> None:
    """The stated runs hold for other seeds than the test's own."""
    runs = {name: hunted.runs for name, hunted in kept.found().items()}
    assert list(runs) == list(PLANTED)
    for name, within in HUNTED.items():
        assert len(runs[name]) == 4
        assert all(run is not None and run <= within for run in runs[name]), name
