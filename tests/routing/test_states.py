"""The table of a request has all that can happen: what it does not name is a bug, and raises."""

import itertools
import re

import pytest

from kvlease.errors import ImpossibleEvent
from kvlease.routing.states import REQUEST, RequestMove, RequestReport, RequestState, moves_after

S, R, M = RequestState, RequestReport, RequestMove
IMPOSSIBLE = [pair for pair in itertools.product(S, R) if pair not in REQUEST]


@pytest.mark.parametrize(("state", "report"), IMPOSSIBLE, ids=["-".join(pair) for pair in IMPOSSIBLE])
def test_a_report_that_has_no_row_raises(state: RequestState, report: RequestReport) -> None:
    with pytest.raises(ImpossibleEvent, match=re.escape(f"{report} cannot happen to a request that is {state}")):
        moves_after(state, report)


def test_the_client_can_leave_at_any_time_and_that_is_the_end() -> None:
    for state in S:
        assert moves_after(state, R.CLIENT_GONE) == {M.LEAVE: S.ENDED}


def test_every_state_is_reached_and_every_one_can_end() -> None:
    leads = {state: {to for (at, _), moves in REQUEST.items() if at is state for to in moves.values()} for state in S}
    reached, new = set(), {S.NEW}
    while new:
        reached |= new
        new = set().union(*(leads[state] for state in new)) - reached
    assert reached == set(S)
    assert all(S.ENDED in leads[state] for state in S)
    assert leads[S.ENDED] == {S.ENDED}


def test_nothing_is_taken_back_of_what_the_client_has() -> None:
    part = {S.STREAMING, S.CONTINUING, S.RESUMING}
    for (state, _), moves in REQUEST.items():
        if state in part:
            assert set(moves.values()) <= part | {S.ENDED}
            assert not {M.REFUSE, M.PASS_ON} & set(moves)
        else:
            assert M.BREAK_OFF not in moves


def test_each_move_leads_to_the_state_that_it_is_named_after() -> None:
    leads: dict[RequestMove, set[RequestState]] = {}
    for moves in REQUEST.values():
        for move, state in moves.items():
            leads.setdefault(move, set()).add(state)
    assert leads == {
        M.ASK_PREFILL: {S.PREFILLING, S.CONTINUING},
        M.ASK_DECODE: {S.DECODING, S.RESUMING},
        M.STREAM: {S.STREAMING},
        **{move: {S.ENDED} for move in (M.FINISH, M.PASS_ON, M.REFUSE, M.BREAK_OFF, M.LEAVE)},
    }
