"""The rows and the goals of leases that are over are made of the right figures."""

from dataclasses import replace
from typing import Any

import pytest

from proof.bench.ends.figures import goals, notes, rows
from proof.bench.ends.found import ArmFound, Calm, Found, ReadOutcomes
from proof.bench.ends.pairs import judged
from proof.bench.frame.figures import Goal
from proof.realengines.router import Answer
from tests.proof.bench.spreads import known

READ = ReadOutcomes(read=3)


def kept(**other: Any) -> ArmFound:
    """An arm with which everything is as it is meant to be, but for what is given."""
    arm = ArmFound(
        calm={1: Calm([50.0, 60.0], [-5.0, 1.0]), 2: Calm([50.0, 60.0], [1.0, 2.0])},
        late=READ,
        reused=ReadOutcomes(computed=3),
        after_abort=READ,
        after_read=READ,
        usable_s=[0.2, 0.3],
        waits_share=[2.0],
        rests_share=[1.0],
        pause_s=[0.03],
        reset_s=[0.04],
        after_pause=READ,
        after_reset=ReadOutcomes(computed=3),
        stayed=[True],
        after_stay=ReadOutcomes(read=1),
        ended_s=[0.5],
    )
    return replace(arm, **other)


STOCK = kept(
    calm={1: Calm([60.0, 60.0], [2.0, 2.0]), 2: Calm([60.0, 60.0], [2.0, 2.0])},
    reused=ReadOutcomes(wrong=3),
    usable_s=[5.0],
    waits_share=[100.0],
    pause_s=[5.0],
)


def found(**other: Any) -> Found:
    return {"kvlease": kept(**other), "stock": STOCK}


def missed(**other: Any) -> list[Goal]:
    return [goal for goal in goals(found(**other)) if not goal.met]


def test_all_goals_are_met_where_everything_is_as_it_is_meant_to_be() -> None:
    assert missed() == []
    assert len(goals(found())) == 11


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"calm": {1: Calm([61.0, 62.0], [1.0, 1.0])}}, "no later than stock's, P with TP 1"),
        ({"late": ReadOutcomes(read=2, computed=1)}, "P has free memory"),
        ({"late": ReadOutcomes(read=2, wrong=1)}, "P has free memory"),
        ({"late": ReadOutcomes()}, "P has free memory"),
        ({"after_abort": ReadOutcomes(computed=3)}, "D let go of it"),
        ({"after_read": ReadOutcomes(read=2, failed=1)}, "after it was read"),
        ({"reused": ReadOutcomes(computed=2, wrong=1)}, "reused the memory"),
        ({"reused": ReadOutcomes(computed=2, read=1)}, "reused the memory"),
        ({"reused": ReadOutcomes()}, "reused the memory"),
        ({"usable_s": [0.1, 0.6]}, "D is killed"),
        ({"waits_share": [5.1]}, "processor time"),
        ({"pause_s": [1.1]}, "a pause of P"),
        ({"reset_s": [1.1]}, "a pause of P"),
        ({"after_pause": ReadOutcomes(wrong=1)}, "read after a pause"),
        ({"after_reset": READ}, "read after a pause"),
        ({"stayed": [False]}, "stays until"),
        ({"after_stay": ReadOutcomes(computed=1)}, "stays until"),
    ],
)
def test_each_figure_can_miss_its_goal_and_no_other(other: dict[str, Any], text: str) -> None:
    (goal,) = missed(**other)
    assert text in goal.text


def test_a_goal_shows_what_stock_did_beside_it() -> None:
    texts = {goal.text: goal.found for goal in goals(found())}
    assert texts["read late, P has reused the memory: refused, none wrong"] == "3 computed again; stock: 3 wrong"
    assert any("at most 0.3 s; stock 5 s" in figure for figure in texts.values())


def test_rows_hold_both_sides_and_ratios_only_where_there_is_one() -> None:
    by_name = {row.what: row for row in rows(found())}
    held = by_name["blocks out of the pool after P's answer, P with TP 1"]
    assert known(held.ratio).median == pytest.approx((50 / 60 + 1) / 2)
    after = by_name["… after D's answer, P with TP 1"]
    assert (known(after.ours).least, after.ratio) == (-5.0, None)
    assert known(by_name["pause of P, leases out to a paused D"].ratio).median == pytest.approx(0.03 / 5)
    wrong = by_name["… wrong"]
    assert (known(wrong.ours).median, known(wrong.stock).median) == (0, 3)
    assert notes()


def test_an_answer_is_judged_by_its_tokens_and_by_whether_d_has_computed() -> None:
    right = Answer(200, ((1, 2),), "")
    assert judged(right, (1, 2), computed=False) == ReadOutcomes(read=1)
    assert judged(right, (1, 2), computed=True) == ReadOutcomes(computed=1)
    assert judged(right, (1, 3), computed=False) == ReadOutcomes(wrong=1)
    assert judged(Answer(500, (), "late"), (1, 2), computed=True) == ReadOutcomes(failed=1)


def test_reads_add_up_and_name_what_there_was() -> None:
    both = ReadOutcomes(read=1, wrong=2) + ReadOutcomes(read=1, failed=1)
    assert (both.count, str(both)) == (5, "2 right from P's memory, 2 wrong, 1 failed")
    assert str(ReadOutcomes()) == "none"
