"""Threads fetch cards, and endpoints that clients made up keep nobody else's card away (R14)."""

import logging
import threading
from collections.abc import Iterator

import pytest

from kvlease.agent import fetching
from kvlease.agent.fetching import MAX_WAITING, OTHER_FETCHERS, PROVEN_FETCHERS, ThreadedCards
from kvlease.errors import CardUnavailable
from kvlease.protocol import Endpoint, LeaseCard
from tests.waiting import wait_until

CARD = LeaseCard([1], 7, b"", [])
HONEST: Endpoint = ("p.example", 5600)


def dead(i: int) -> Endpoint:
    return f"dead{i}.example", 1


class Side:
    """A side channel that serves cards, fails, or is silent until the test lets it go on."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.honest = {HONEST}
        self.asked: list[Endpoint] = []
        self.serves = True
        self.cards = ThreadedCards(self.fetch)

    def fetch(self, endpoint: Endpoint) -> LeaseCard:
        self.asked.append(endpoint)
        if endpoint not in self.honest:
            self.let_go.wait(10)
            raise CardUnavailable(f"{endpoint} is silent")
        if not self.serves:
            raise CardUnavailable(f"{endpoint} serves none")
        return CARD

    def answers(self, count: int) -> list[tuple[Endpoint, LeaseCard | None]]:
        answers: list[tuple[Endpoint, LeaseCard | None]] = []

        def have_come() -> bool:
            answers.extend(self.cards.answers())
            return len(answers) >= count

        wait_until(have_come)
        return answers

    def is_proven(self, endpoint: Endpoint) -> bool:
        """Tells whether the endpoint is asked although too many that are not proven wait."""
        before = self.asked.count(endpoint)
        self.cards.ask(endpoint)
        (answer,) = self.answers(1)
        assert (self.asked.count(endpoint) > before) == (answer[1] is not None)
        return answer[1] is not None

    def ask_too_many(self) -> None:
        """Asks as many endpoints that never answer as may be asked or wait at once."""
        for i in range(MAX_WAITING):
            self.cards.ask(dead(1000 + i))


@pytest.fixture
def side() -> Iterator[Side]:
    side = Side()
    yield side
    side.let_go.set()
    side.cards.close()


def test_r14_endpoints_that_clients_made_up_keep_no_known_producers_card_away(side: Side) -> None:
    side.cards.ask(HONEST)
    assert side.answers(1) == [(HONEST, CARD)]
    for i in range(MAX_WAITING):
        side.cards.ask(dead(i))
    wait_until(lambda: len(side.asked) >= 1 + OTHER_FETCHERS)
    for _ in range(2 * PROVEN_FETCHERS):
        side.cards.ask(HONEST)
        assert side.answers(1) == [(HONEST, CARD)]


def test_r12_what_waits_to_be_asked_is_bounded(side: Side) -> None:
    for i in range(MAX_WAITING + 50):
        side.cards.ask(dead(i))
    assert side.answers(50) == [(dead(MAX_WAITING + i), None) for i in range(50)]
    side.let_go.set()
    assert len(side.answers(MAX_WAITING)) == MAX_WAITING
    side.cards.ask(dead(0))
    assert side.answers(1) == [(dead(0), None)]
    assert side.asked.count(dead(0)) == 2, "there is room again"


def test_questions_about_one_endpoint_share_a_fetch(side: Side) -> None:
    for _ in range(100):
        side.cards.ask(dead(1))
    side.let_go.set()
    assert side.answers(1) == [(dead(1), None)]
    assert side.asked == [dead(1)]


def test_who_stops_to_serve_is_proven_no_longer(side: Side) -> None:
    side.cards.ask(HONEST)
    side.answers(1)
    side.ask_too_many()
    assert side.is_proven(HONEST)
    side.serves = False
    side.cards.ask(HONEST)
    assert side.answers(1) == [(HONEST, None)]
    side.serves = True
    assert not side.is_proven(HONEST)


def test_r12_the_proven_are_bounded(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MAX_PROVEN", 3)
    side.honest = {dead(i) for i in range(10)}
    for i in range(10):
        side.cards.ask(dead(i))
        side.answers(1)
    side.ask_too_many()
    assert [i for i in range(10) if side.is_proven(dead(i))] == [7, 8, 9]


def test_a_bug_is_an_answer_too_and_one_line_a_minute(caplog: pytest.LogCaptureFixture, side: Side) -> None:
    def bug(_: Endpoint) -> LeaseCard:
        raise ZeroDivisionError

    caplog.set_level(logging.WARNING, logger="kvlease")
    side.cards = ThreadedCards(bug)
    for i in range(20):
        side.cards.ask(dead(i))
    assert len(side.answers(20)) == 20
    assert len(caplog.records) == 1
