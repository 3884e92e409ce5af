"""The judgement of a run: anything that goes wrong breaks a promise."""

from dataclasses import replace

import pytest

from proof.chaos.judge import PROMISES, broken
from proof.chaos.outcome import AGENTS_DOWN, Answered, Leftovers, Run
from proof.chaos.traffic import judged
from tests.proof.chaos.runs import FAULT_AT_S, kept_run, with_answer, with_round

WRONG, STRANDED, DIED, AFTER, UNEXPLAINED, LEFT = (promise.figure for promise in PROMISES)


def test_nothing_is_broken_where_nothing_went_wrong() -> None:
    assert broken(kept_run()) == {}


@pytest.mark.parametrize("client", ["plain", "twice", "after", "dawdle"])
def test_a_wrong_answer_is_one_whoever_asked(client: str) -> None:
    found = broken(with_answer(kept_run(), client, "right", "wrong"))
    assert found[WRONG] == [f"request 1 ({client})"]


def test_a_wrong_answer_of_p_alone_counts_as_well() -> None:
    fill = Answered("p", "wrong", 11.0, 12.0)
    run = kept_run()
    assert broken(with_round(run, replace(run.rounds[0], fills=[fill]))) == {WRONG: ["p alone"]}


def test_each_stranded_block_counts() -> None:
    run = kept_run()
    kind = run.rounds[0].round.fault.kind
    found = broken(with_round(run, replace(run.rounds[0], stranded=2, free_s=31.0)))
    assert found == {STRANDED: [f"block 1 of 2 after fault 1 ({kind})", f"block 2 of 2 after fault 1 ({kind})"]}


def test_an_engine_that_nobody_killed_and_that_died_is_named() -> None:
    run = kept_run()
    found = broken(with_round(run, replace(run.rounds[0], died=["kvlease-d1"])))
    assert list(found) == [DIED]
    assert "kvlease-d1" in found[DIED][0]


def test_a_lease_agent_that_died_is_one_as_well() -> None:
    assert broken(replace(kept_run(), counts={AGENTS_DOWN: 2})) == {DIED: ["a lease agent"] * 2}


@pytest.mark.parametrize("verdict", ["error", "gave-up", "aborted"])
def test_who_comes_after_the_fault_is_to_be_answered(verdict: str) -> None:
    assert list(broken(with_answer(kept_run(), "after", verdict))) == [AFTER]  # type: ignore[arg-type]


def test_an_error_is_explained_by_a_fault_that_had_begun() -> None:
    assert broken(with_answer(kept_run(), "plain", "error", ended_s=FAULT_AT_S + 0.1)) == {}
    assert list(broken(with_answer(kept_run(), "plain", "error", ended_s=FAULT_AT_S - 0.1))) == [UNEXPLAINED]


@pytest.mark.parametrize("client", ["dawdle", "twice", "switch"])
def test_who_comes_late_or_twice_may_be_refused(client: str) -> None:
    assert broken(with_answer(kept_run(), client, "error", ended_s=FAULT_AT_S - 0.1)) == {}


@pytest.mark.parametrize(
    ("left", "named"),
    [
        (Leftovers(gauges={"p: kvlease:sessions": 1.0}), "p: kvlease:sessions 1"),
        (Leftovers(processes=["process 7"]), "process 7"),
        (Leftovers(shared_memory=["/dev/shm/psm_1"]), "/dev/shm/psm_1"),
        (Leftovers(namespaces=["kvlease-1-1-p"]), "kvlease-1-1-p"),
        (Leftovers(killed=["kvlease-p"]), "kvlease-p (did not end on SIGTERM)"),
    ],
)
def test_whatever_is_left_is_named(left: Leftovers, named: str) -> None:
    run: Run = replace(kept_run(), leftovers=left)
    assert broken(run) == {LEFT: [named]}


def test_an_answer_is_judged_by_its_tokens_and_an_error_by_its_status() -> None:
    assert judged(200, (1, 2), (1, 2), "") == ("right", "")
    assert judged(200, (1, 3), (1, 2), "") == ("wrong", "[1, 3] and not [1, 2]")
    assert judged(200, (), (1, 2), "")[0] == "wrong"
    assert judged(500, (), (1, 2), "late") == ("error", "HTTP 500: late")
