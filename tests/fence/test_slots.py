"""The slots of the fence: each belongs to one lease (S3) until its word is clear."""

import itertools

import pytest

from kvlease.fence.slots import FenceSlots, Slot, draw_token


def empty(count: int = 2) -> FenceSlots:
    return FenceSlots(count, draw=itertools.count(101).__next__)


def test_a_request_has_its_slot_by_name_and_by_token() -> None:
    slots = empty()
    slot = slots.take("a")
    assert slot == Slot("a", index=0, token=101)
    assert (slots.of("a"), slots.holding(101)) == (slot, slot)
    assert (slots.of("b"), slots.holding(999)) == (None, None)


def test_s3_a_slot_is_given_out_again_only_when_it_was_taken_back() -> None:
    slots = empty(1)
    first = slots.take("a")
    assert slots.full
    slots.forget(first)
    assert slots.full, "its word may still be armed"
    slots.retire(first)
    assert not slots.full
    assert slots.take("b") == Slot("b", index=0, token=102)


def test_s3_a_name_can_be_used_again_while_the_first_word_under_it_is_being_cleared() -> None:
    slots = empty()
    first = slots.take("r")
    slots.forget(first)
    assert slots.of("r") is None
    second = slots.take("r")
    slots.forget(first)
    assert slots.of("r") is second, "the name is the second one's"
    assert slots.holding(first.token) is first
    slots.retire(first)
    assert slots.of("r") is second
    assert slots.holding(first.token) is None


def test_a_name_has_one_slot_at_a_time() -> None:
    slots = empty()
    slots.take("a")
    with pytest.raises(AssertionError, match="a has a slot already"):
        slots.take("a")


def test_s3_a_token_never_names_two_leases() -> None:
    slots = FenceSlots(2, draw=lambda: 7)
    slots.take("a")
    with pytest.raises(AssertionError, match="names two leases"):
        slots.take("b")


def test_slots_rest_as_long_as_they_can() -> None:
    slots = empty(3)
    taken = {name: slots.take(name) for name in "abc"}
    slots.retire(taken["c"])
    slots.retire(taken["a"])
    assert [slots.take(name).index for name in "de"] == [2, 0]


def test_r12_nothing_is_left_behind() -> None:
    """R12: the same names, tokens and slots, once more, find the slots as they were at first."""
    slots = FenceSlots(4, draw=itertools.cycle(range(1, 101)).__next__)
    for i in [*range(100), *range(100)]:
        slot = slots.take(f"r{i}")
        assert dict(slots.snapshot().used) == {slot.index: slot.token}
        slots.retire(slot)
        assert (len(slots), slots.of(slot.request_id), dict(slots.snapshot().used)) == (0, None, {})
    assert [slots.take(f"r{i}").index for i in range(4)] == [0, 1, 2, 3], "every slot is free"
    assert (len(slots), slots.full, slots.snapshot().total) == (4, True, 4)


def test_tokens_are_u64_and_never_zero() -> None:
    assert all(0 < draw_token() < 1 << 64 for _ in range(100))
