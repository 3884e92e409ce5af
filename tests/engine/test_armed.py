"""A worker tells its words apart by their slots, since a request's name may come again (vllm 27987, 15326)."""

from kvlease.engine.armed import ArmedWords
from kvlease.fence import FenceTable, RegisteredWords
from kvlease.fence.slots import FenceOrders, FenceSlots, Slot
from kvlease.testing.data_agent import FakeDataAgent

OLD, NEW = Slot("r", 0, 11), Slot("r", 1, 22)


def armed_words() -> tuple[ArmedWords, FenceTable]:
    table = FenceTable(RegisteredWords(FakeDataAgent(), 4))
    return ArmedWords(table), table


def test_the_word_of_an_aborted_prefill_goes_and_the_one_under_the_same_name_stays() -> None:
    """S2: an order to clear the first one used to clear the second, and left the first armed over freed blocks."""
    held, table = armed_words()
    held.arm(FenceOrders(arm=(OLD,)))
    held.arm(FenceOrders(arm=(NEW,), clear=(OLD,)))
    # The blocks of that name are the second prefill's by now: they must not go.
    assert not held.clear(OLD.index)
    assert (table.word(0), table.word(1)) == (0, 22)
    assert "r" in held
    assert held.clear(NEW.index)
    assert (table.word(0), table.word(1)) == (0, 0)
    assert "r" not in held
    assert held.take_cleared() == {0: 1, 1: 1}


def test_a_word_is_cleared_once_by_whoever_comes_first() -> None:
    held, _ = armed_words()
    held.arm(FenceOrders(arm=(OLD,)))
    assert held.clear_request("r")
    assert not held.clear(OLD.index)
    assert not held.clear_request("r")
    assert held.take_cleared() == {0: 1}


def test_the_second_word_under_a_name_can_go_first() -> None:
    held, _ = armed_words()
    held.arm(FenceOrders(arm=(OLD, NEW)))
    assert held.clear_request("r")
    assert not held.clear(OLD.index)
    assert held.take_cleared() == {0: 1, 1: 1}


def test_the_scheduler_too_keeps_the_second_word_under_a_name() -> None:
    tokens = iter((11, 22))
    slots = FenceSlots(4, workers=1, draw=lambda: next(tokens))
    first = slots.take("r")
    assert first is not None
    slots.order_clear(first.token)
    second = slots.take("r")
    assert second is not None
    assert slots.hear_cleared({first.index: 1}) == [first]
    assert slots.of("r") == second
