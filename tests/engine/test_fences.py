"""A consumer's worker asks for its producers' fences, and reads nothing from a leased request without them."""

from concurrent.futures import Future

from kvlease.engine.known_fences import Admission, KnownFences, Rank, Source
from kvlease.errors import CardUnavailable
from kvlease.protocol import Endpoint, Fingerprint, LeaseCard, LeaseRef, WorkerFence

P = Source("P", ("p", 1))
PROMPT = Fingerprint(tokens=64, digest=7)


class Cards:
    """A side channel that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Future[LeaseCard]] = []

    def fetch(self, endpoint: Endpoint) -> Future[LeaseCard]:
        assert endpoint == P.endpoint
        self.asked.append(Future())
        return self.asked[-1]


def admit(fences: KnownFences, cards: Cards, ref: LeaseRef, ranks: list[Rank], answer: LeaseCard | None) -> Admission:
    """Asks for admission as a worker does: again when the card has come, or nobody serves one."""
    asked_again: list[None] = []
    first = fences.admit("r", P, ref, ranks, lambda: asked_again.append(None))
    if first is not Admission.WAIT:
        return first
    if answer is None:
        cards.asked[-1].set_exception(CardUnavailable("nobody is there"))
    else:
        cards.asked[-1].set_result(answer)
    assert asked_again
    return fences.admit("r", P, ref, ranks, lambda: None)


CARD = LeaseCard([1], 7, b"", [WorkerFence(0, 0, 4096, 16)])


def test_a_card_without_a_worker_that_is_read_from_refuses_the_read() -> None:
    """S1: a read needs a card that covers every rank that data comes from, and the slot of the lease."""
    cards = Cards()
    fences = KnownFences(cards.fetch)
    assert admit(fences, cards, LeaseRef(7, 1, 15, 1000, PROMPT), [(0, 0), (0, 1)], CARD) is Admission.REFUSED
    assert admit(fences, cards, LeaseRef(7, 1, 16, 1000, PROMPT), [(0, 0)], CARD) is Admission.REFUSED
    assert admit(fences, cards, LeaseRef(7, 1, 15, 1000, PROMPT), [(0, 0)], CARD) is Admission.READ
    assert fences.table("P", (0, 0)).slots == 16


def test_an_incarnation_that_is_not_there_is_not_read_from() -> None:
    """R22: nothing is read if nobody serves a card, or if another incarnation does, whose coming is reported once."""
    cards = Cards()
    fences = KnownFences(cards.fetch)
    old, new = LeaseRef(7, 1, 0, 1000, PROMPT), LeaseRef(8, 2, 0, 1000, PROMPT)
    assert admit(fences, cards, old, [(0, 0)], None) is Admission.REFUSED
    assert admit(fences, cards, old, [(0, 0)], CARD) is Admission.READ
    restarted = LeaseCard([1], 8, b"", CARD.fences)
    assert admit(fences, cards, new, [(0, 0)], restarted) is Admission.REFUSED
    assert fences.take_replaced("P")
    assert not fences.take_replaced("P")
    assert admit(fences, cards, new, [(0, 0)], restarted) is Admission.READ
    assert admit(fences, cards, old, [(0, 0)], restarted) is Admission.REFUSED
