"""The slots of the fence: each belongs to one lease (S3) until every worker has cleared its word."""

import itertools

import pytest

from kvlease.fence.slots import FenceOrders, FenceSlots, Slot, draw_token


def empty(count: int = 2, workers: int = 2) -> FenceSlots:
    return FenceSlots(count, workers, draw=itertools.count(101).__next__)


def test_a_prepared_lease_is_armed_by_the_next_step() -> None:
    slots = empty()
    assert not slots.has_orders
    assert slots.take("a") == Slot("a", index=0, token=101)
    assert slots.of("a") == Slot("a", 0, 101)
    assert slots.has_orders
    assert slots.take_orders() == FenceOrders(arm=(Slot("a", 0, 101),))
    assert not slots.has_orders
    assert slots.take_orders() == FenceOrders()


def test_s3_a_slot_is_given_out_again_only_when_every_worker_has_cleared_it() -> None:
    slots = empty(1)
    slots.take("a")
    slots.take_orders()
    slots.order_clear(101)
    assert slots.of("a") is None
    assert slots.take_orders() == FenceOrders(clear=(Slot("a", 0, 101),))
    assert slots.hear_cleared({0: 1}) == []
    assert slots.take("b") is None
    assert slots.hear_cleared({0: 1}) == [Slot("a", 0, 101)]
    assert slots.take("b") == Slot("b", index=0, token=102)


def test_slots_used_up_is_an_answer_not_an_error() -> None:
    slots = empty(2)
    assert slots.take("a")
    assert slots.take("b")
    assert slots.take("c") is None
    assert len(slots) == 2


def test_clearing_is_ordered_once() -> None:
    slots = empty()
    slots.take("a")
    slots.take_orders()
    slots.order_clear(101)
    slots.order_clear(101)
    assert slots.has_orders
    assert len(slots.take_orders().clear) == 1
    slots.order_clear(101)
    assert not slots.has_orders
    assert slots.take_orders() == FenceOrders()
    slots.order_clear(999)
    assert slots.take_orders() == FenceOrders()


def test_workers_may_clear_by_themselves_before_they_are_told() -> None:
    """Workers may clear before they are told, as the rank that a stock consumer's notice reaches before the order."""
    slots = empty()
    slots.take("a")
    slots.take_orders()
    assert slots.hear_cleared({0: 1}) == []
    slots.order_clear(101)
    assert slots.hear_cleared({0: 1}) == [Slot("a", 0, 101)]
    assert len(slots) == 0
    assert slots.of("a") is None


def test_s3_a_token_never_names_two_leases() -> None:
    slots = FenceSlots(2, workers=1, draw=lambda: 7)
    slots.take("a")
    with pytest.raises(AssertionError, match="names two leases"):
        slots.take("b")


def test_slots_rest_as_long_as_they_can() -> None:
    slots = empty(3, workers=1)
    for name in "abc":
        slots.take(name)
    for token, index in ((103, 2), (101, 0)):
        slots.order_clear(token)
        slots.hear_cleared({index: 1})
    assert [slot.index for name in "de" if (slot := slots.take(name))] == [2, 0]


def test_r12_nothing_is_left_behind() -> None:
    """R12: the same names, tokens and slots, once more, find the slots as they were at first."""
    slots = FenceSlots(4, workers=2, draw=itertools.cycle(range(1, 101)).__next__)
    for i in [*range(100), *range(100)]:
        slot = slots.take(f"r{i}")
        assert slot is not None
        assert slots.take_orders() == FenceOrders(arm=(slot,))
        slots.order_clear(slot.token)
        assert slots.take_orders() == FenceOrders(clear=(slot,))
        assert slots.hear_cleared({slot.index: 1}) == []
        assert slots.hear_cleared({slot.index: 1}) == [slot]
        assert (len(slots), slots.of(slot.request_id), dict(slots.snapshot().used)) == (0, None, {})
    assert all(slots.take(f"r{i}") for i in range(4)), "every slot is free"


def test_tokens_are_u64_and_never_zero() -> None:
    assert all(0 < draw_token() < 1 << 64 for _ in range(100))
