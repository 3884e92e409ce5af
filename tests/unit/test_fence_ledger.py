"""Who has which slot of the fence (S3), and when it may be given out again."""

import itertools

import pytest

from kvlease.fence.ledger import FenceLedger, FenceOrders, Word, draw_token


def ledger(slots: int = 2, workers: int = 2) -> FenceLedger:
    return FenceLedger(slots, workers, draw=itertools.count(101).__next__)


def test_a_prepared_lease_is_armed_by_the_next_step() -> None:
    book = ledger()
    assert not book.has_orders
    assert book.prepare("a") == Word("a", slot=0, token=101)
    assert book.word("a") == Word("a", 0, 101)
    assert book.has_orders
    assert book.take_orders() == FenceOrders(arm=(Word("a", 0, 101),))
    assert not book.has_orders
    assert book.take_orders() == FenceOrders()


def test_s3_a_slot_is_given_out_again_only_when_every_worker_has_cleared_it() -> None:
    book = ledger(slots=1)
    book.prepare("a")
    book.take_orders()
    book.clear(101)
    assert book.word("a") is None
    assert book.take_orders() == FenceOrders(clear=(Word("a", 0, 101),))
    assert book.report({0: 1}) == []
    assert book.prepare("b") is None
    assert book.report({0: 1}) == [Word("a", 0, 101)]
    assert book.prepare("b") == Word("b", slot=0, token=102)


def test_slots_used_up_is_an_answer_not_an_error() -> None:
    book = ledger(slots=2)
    assert book.prepare("a")
    assert book.prepare("b")
    assert book.prepare("c") is None
    assert len(book) == 2


def test_clearing_is_ordered_once() -> None:
    book = ledger()
    book.prepare("a")
    book.take_orders()
    book.clear(101)
    book.clear(101)
    assert book.has_orders
    assert len(book.take_orders().clear) == 1
    book.clear(101)
    assert not book.has_orders
    assert book.take_orders() == FenceOrders()
    book.clear(999)
    assert book.take_orders() == FenceOrders()


def test_workers_may_clear_by_themselves_before_they_are_told() -> None:
    """A stock consumer's notice reaches one rank before the order does; the rank that was told makes up the number."""
    book = ledger()
    book.prepare("a")
    book.take_orders()
    assert book.report({0: 1}) == []
    book.clear(101)
    assert book.report({0: 1}) == [Word("a", 0, 101)]
    assert len(book) == 0
    assert book.word("a") is None


def test_s3_a_token_never_names_two_leases() -> None:
    book = FenceLedger(slots=2, workers=1, draw=lambda: 7)
    book.prepare("a")
    with pytest.raises(AssertionError, match="names two leases"):
        book.prepare("b")


def test_slots_rest_as_long_as_they_can() -> None:
    book = ledger(slots=3, workers=1)
    for name in "abc":
        book.prepare(name)
    for token, slot in ((103, 2), (101, 0)):
        book.clear(token)
        book.report({slot: 1})
    assert [word.slot for name in "de" if (word := book.prepare(name))] == [2, 0]


def test_r12_nothing_is_left_behind() -> None:
    book = ledger(slots=4, workers=1)
    for i in range(100):
        word = book.prepare(f"r{i}")
        assert word is not None
        book.take_orders()
        book.clear(word.token)
        book.take_orders()
        book.report({word.slot: 1})
    assert len(book) == 0
    assert not book._words
    assert not book._by_token
    assert not book._ordered
    assert not book._cleared
    assert len(book._free) == 4


def test_tokens_are_u64_and_never_zero() -> None:
    assert all(0 < draw_token() < 1 << 64 for _ in range(100))
