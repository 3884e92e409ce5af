"""A worker arms and clears words by order, and counts what it has cleared."""

from kvlease.engine.armed import ArmedWords
from kvlease.engine.orders import FenceOrders
from kvlease.fence import FenceTable, RegisteredWords
from kvlease.fence.slots import Slot
from kvlease.testing.data_agent import FakeDataAgent

OLD, NEW = Slot("r", 0, 11), Slot("r", 1, 22)


def armed_words() -> tuple[ArmedWords, FenceTable]:
    table = FenceTable(RegisteredWords(FakeDataAgent(), 4))
    return ArmedWords(table), table


def test_words_are_told_apart_by_their_slots_since_a_requests_name_may_come_again() -> None:
    """S2: an order to clear the first one used to clear the second, and left the first armed (vllm 27987, 15326)."""
    words, table = armed_words()
    words.arm(FenceOrders(arm=(OLD,)))
    words.arm(FenceOrders(arm=(NEW,)))
    words.clear(FenceOrders(clear=(OLD,)))
    assert (table.word(0), table.word(1)) == (0, 22)
    words.clear(FenceOrders(clear=(NEW,)))
    assert (table.word(0), table.word(1)) == (0, 0)


def test_what_was_cleared_is_reported_once() -> None:
    words, _ = armed_words()
    words.arm(FenceOrders(arm=(OLD, NEW)))
    words.clear(FenceOrders(arm=(OLD, NEW), clear=(OLD, NEW)))
    assert words.take_cleared() == {0: 1, 1: 1}
    assert words.take_cleared() == {}


def test_an_order_does_one_thing_at_a_time() -> None:
    """The parts of a step are apart: what an order says to clear is not cleared as its words are armed."""
    words, table = armed_words()
    orders = FenceOrders(arm=(OLD,), clear=(OLD,))
    words.arm(orders)
    assert (table.word(0), words.take_cleared()) == (11, {})
    words.clear(orders)
    assert (table.word(0), words.take_cleared()) == (0, {0: 1})
