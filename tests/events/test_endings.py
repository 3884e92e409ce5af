"""Endings that are rarer than what `test_stories` plays, made by hand."""

import pytest

from kvlease.events.endings import Ending, outcome_of
from kvlease.events.schema import EventKind, EventLine
from tests.events.lines import d_line, p_line

GRANTED = p_line(0.0, EventKind.GRANTED, tokens=190, blocks=12, term_s=30.0)
WANTED = d_line(1.0, EventKind.WANTED)
CLAIMED = p_line(1.1, EventKind.CLAIMED, age_s=1.1, first=True, revived=False)

RETURNED = d_line(1.0, EventKind.HAND_OFF_ENDED, end="returned")


def lapsed(cause: str, claimed_s: float | None = None) -> EventLine:
    return p_line(40.0, EventKind.LAPSED, cause=cause, age_s=40.0, claimed_s=claimed_s)


@pytest.mark.parametrize(
    ("ending", "lines"),
    [
        (Ending.UNLEASED, [GRANTED, d_line(1.0, EventKind.UNLEASED)]),
        (Ending.UNLEASED, [GRANTED, p_line(1.0, EventKind.UNFENCED_READ), lapsed("released")]),
        (Ending.NO_FENCE, [GRANTED, WANTED, d_line(2.0, EventKind.READ_DENIED)]),
        (Ending.UNREADABLE, [WANTED, d_line(2.0, EventKind.FENCE_CHECKED, verdict="failed")]),
        (Ending.UNREADABLE, [WANTED, d_line(2.0, EventKind.HAND_OFF_ENDED, end="failed")]),
        (Ending.WITHDRAWN, [GRANTED, lapsed("aborted")]),
        (Ending.AGED_OUT, [GRANTED, WANTED, CLAIMED, lapsed("aged_out", 38.9)]),
        (Ending.REVOKED, [GRANTED, WANTED, CLAIMED, lapsed("revoked", 38.9), d_line(41.0, EventKind.LOST)]),
        (Ending.LOST, [WANTED, d_line(2.0, EventKind.FENCE_CHECKED, verdict="revoked")]),
        (Ending.LOCAL, [GRANTED, WANTED, d_line(2.0, EventKind.HAND_OFF_ENDED, end="local")]),
        (Ending.SILENT, [GRANTED, WANTED, CLAIMED, lapsed("expired", 38.9), d_line(60.0, EventKind.LOST)]),
        (Ending.LATE, [GRANTED, lapsed("expired"), p_line(41.0, EventKind.CLAIM_TOO_LATE)]),
        (Ending.DECLINED, [p_line(0.0, EventKind.DECLINED, lease=None, reason="draining")]),
        (Ending.DECLINED, [p_line(0.0, EventKind.DECLINED, lease=None, reason="of a later version")]),
        (Ending.HANDED_BACK, [GRANTED, RETURNED, lapsed("expired")]),
        (Ending.USED, [GRANTED, RETURNED, CLAIMED, lapsed("released", 5.0)]),
        (Ending.UNDER_WAY, [GRANTED, RETURNED]),
        (Ending.UNDER_WAY, [GRANTED, WANTED, CLAIMED]),
        (Ending.UNDER_WAY, [d_line(0.0, EventKind.STARTED)]),
    ],
)
def test_a_rare_ending(ending: Ending, lines: list[EventLine]) -> None:
    outcome = outcome_of(lines)
    assert outcome.ending is ending
    assert outcome.verdict.endswith(".")
    assert outcome.advice.endswith(".")


def test_one_worker_whose_fence_is_revoked_decides() -> None:
    checked = [
        d_line(2.0, EventKind.FENCE_CHECKED, verdict=verdict, worker=n)
        for n, verdict in enumerate(("intact", "revoked"))
    ]
    assert outcome_of([GRANTED, WANTED, *checked]).ending is not Ending.USED
