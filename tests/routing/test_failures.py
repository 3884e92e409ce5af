"""The table `FAILURES`: what follows from each way in which a call can fail."""

import pytest

from kvlease.routing.actions import said_of
from kvlease.routing.failures import FAILURES, EngineFailure, of_answer, of_status

F = EngineFailure


def test_every_failure_has_a_row_and_words() -> None:
    assert list(FAILURES) == list(EngineFailure)
    assert len({said_of(failure) for failure in EngineFailure}) == len(EngineFailure)


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (200, None),
        (204, None),
        (400, F.REFUSED),
        (404, F.REFUSED),
        (429, F.REFUSED),
        (500, F.ERROR),
        (501, F.ERROR),
        (502, F.GATEWAY),
        (503, F.BUSY),
        (504, F.GATEWAY),
        (529, F.ERROR),
        (302, F.GARBLED),
        (101, F.GARBLED),
        (600, F.GARBLED),
    ],
)
def test_a_status_is_a_failure_or_none(status: int, failure: EngineFailure | None) -> None:
    assert of_status(status) is failure


def test_an_engine_that_shuts_down_says_so_in_a_500() -> None:
    said = b'{"error":{"message":"cannot schedule new futures after shutdown","type":"InternalServerError","code":500}}'
    assert of_answer(500, said) is F.ABORTED
    assert of_answer(400, said) is F.REFUSED
    assert of_answer(500, b"{}") is F.ERROR
    assert of_answer(200, said) is None


def test_only_a_clients_own_mistake_is_not_sent_again() -> None:
    assert [failure for failure, rule in FAILURES.items() if not rule.retried] == [F.REFUSED]


def test_only_an_engine_that_was_not_reached_has_seen_nothing() -> None:
    assert [failure for failure, rule in FAILURES.items() if not rule.seen] == [F.UNREACHABLE]
    assert not FAILURES[F.UNREACHABLE].budget, "nobody has done anything for it"


def test_what_opens_a_breaker_counts_for_it_and_a_500_does_not_open_it() -> None:
    assert all(rule.breaker for rule in FAILURES.values() if rule.opens)
    assert {failure for failure, rule in FAILURES.items() if rule.breaker and not rule.opens} == {F.ERROR}


def test_the_client_gets_a_status_that_says_who_is_at_fault() -> None:
    assert all(rule.status >= 500 for rule in FAILURES.values() if rule.retried)
    assert FAILURES[F.REFUSED].status == 400
