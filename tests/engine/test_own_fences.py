"""A producer's own words, as its scheduler has them armed and cleared: by itself, or by order."""

import pytest

from kvlease.engine.orders import NO_ORDERS, FenceOrders
from kvlease.engine.own_fences import OrderedFences, SharedFences
from kvlease.fence import FenceTable, RegisteredWords
from kvlease.fence.slots import Slot
from kvlease.testing.data_agent import FakeDataAgent

A, B = Slot("a", 0, 101), Slot("b", 1, 102)


def tables(count: int = 2) -> list[FenceTable]:
    return [FenceTable(RegisteredWords(FakeDataAgent(), 4)) for _ in range(count)]


def test_a_scheduler_that_shares_the_words_writes_them_in_every_worker_at_once() -> None:
    own = tables()
    fences = SharedFences(own)
    fences.arm(A)
    assert [table.word(0) for table in own] == [101, 101]
    assert fences.clear(A)
    assert [table.word(0) for table in own] == [0, 0]
    assert fences.clear(A), "it is clear"
    assert fences.at_once


def test_a_scheduler_that_shares_the_words_orders_nothing_and_hears_of_nothing() -> None:
    fences = SharedFences(tables())
    fences.arm(A)
    fences.clear(A)
    assert not fences.has_orders
    assert fences.take_orders() is NO_ORDERS
    assert fences.hear_cleared({}) == []
    with pytest.raises(AssertionError, match="without an order"):
        fences.hear_cleared({0: 1})


def test_orders_go_with_the_next_step_and_once() -> None:
    fences = OrderedFences(workers=2)
    assert not fences.at_once
    assert fences.take_orders() is NO_ORDERS
    fences.arm(A)
    assert fences.has_orders
    assert fences.take_orders() == FenceOrders(arm=(A,))
    assert not fences.has_orders
    assert not fences.clear(A)
    fences.arm(B)
    assert fences.take_orders() == FenceOrders(arm=(B,), clear=(A,))
    assert fences.take_orders() is NO_ORDERS


def test_what_is_armed_and_cleared_in_one_step_is_ordered_both() -> None:
    fences = OrderedFences(workers=1)
    fences.arm(A)
    fences.clear(A)
    assert fences.take_orders() == FenceOrders(arm=(A,), clear=(A,))


def test_s3_a_word_is_clear_when_every_worker_has_cleared_it() -> None:
    fences = OrderedFences(workers=3)
    fences.clear(A)
    fences.clear(B)
    assert fences.hear_cleared({0: 2, 1: 3}) == [B]
    assert fences.hear_cleared({0: 1}) == [A]
    with pytest.raises(AssertionError, match="slot 0 cleared by more workers than there are"):
        fences.hear_cleared({0: 4})


def test_clearing_is_ordered_once_until_it_is_done() -> None:
    fences = OrderedFences(workers=1)
    fences.clear(A)
    fences.clear(A)
    assert fences.take_orders().clear == (A,)
    fences.clear(A)
    assert not fences.has_orders
    assert fences.hear_cleared({0: 1}) == [A]
    later = Slot("c", 0, 103)
    fences.clear(later)
    assert fences.take_orders().clear == (later,), "the slot has another lease by now"
