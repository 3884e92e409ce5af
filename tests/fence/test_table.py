"""The producer's fence words (S2, S3): one token a slot, or 0."""

import ctypes
import mmap

import pytest

from kvlease.fence import FenceAddress, FenceTable, RegisteredWords
from kvlease.testing.data_agent import FakeDataAgent

TOKEN = 0xFEDC_BA98_7654_3210


def in_memory(address: int) -> bytes:
    """The eight bytes that another process would read at this address."""
    return ctypes.string_at(address, 8)


def test_a_word_is_the_token_while_armed_and_zero_otherwise() -> None:
    table = FenceTable(RegisteredWords(FakeDataAgent(), 8))
    address = table.address.word(3)
    assert in_memory(address) == bytes(8)
    table.arm(3, TOKEN)
    assert table.word(3) == TOKEN
    assert in_memory(address) == bytes.fromhex("1032547698badcfe"), "little-endian on the wire"
    assert table.word(2) == table.word(4) == 0
    table.clear(3)
    assert in_memory(address) == bytes(8)
    table.clear(3)
    assert table.word(3) == 0


def test_words_are_aligned_and_all_of_them_are_registered() -> None:
    agent = FakeDataAgent()
    table = FenceTable(RegisteredWords(agent, 1000))
    base, slots = table.address
    assert base % mmap.PAGESIZE == 0
    assert slots == 1000
    assert agent.registered == [((base, 8000, 0, ""),)]


def test_a_slot_never_holds_two_tokens() -> None:
    table = FenceTable(RegisteredWords(FakeDataAgent(), 8))
    table.arm(0, TOKEN)
    table.arm(0, TOKEN)
    with pytest.raises(
        RuntimeError, match="slot 0 holds 0xfedcba9876543210 and cannot be armed with 0x0000000000000001"
    ):
        table.arm(0, 1)
    assert table.word(0) == TOKEN
    table.clear(0)
    table.arm(0, 1)
    assert table.word(0) == 1


@pytest.mark.parametrize("slot", [-1, 8, 1 << 40])
def test_a_slot_out_of_range_is_refused_by_name(slot: int) -> None:
    table = FenceTable(RegisteredWords(FakeDataAgent(), 8))
    for call in (table.clear, table.word, table.address.word, lambda slot: table.arm(slot, 1)):
        with pytest.raises(IndexError, match=f"slot {slot} .* 8 slots"):
            call(slot)


@pytest.mark.parametrize("token", [0, -1, 1 << 64])
def test_a_token_is_a_non_zero_u64(token: int) -> None:
    table = FenceTable(RegisteredWords(FakeDataAgent(), 8))
    with pytest.raises(ValueError, match="non-zero u64"):
        table.arm(0, token)
    assert table.word(0) == 0


def test_the_address_of_a_word_is_base_plus_eight_a_slot() -> None:
    assert FenceAddress(4096, 4).word(3) == 4096 + 24


def test_a_table_has_slots() -> None:
    with pytest.raises(ValueError, match="not 0"):
        FenceTable(RegisteredWords(FakeDataAgent(), 0))


def test_closing_clears_every_word_before_it_withdraws_the_table() -> None:
    agent = FakeDataAgent()
    table = FenceTable(RegisteredWords(agent, 2))
    table.arm(0, TOKEN)
    address = table.address.word(0)
    table.close()
    assert agent.registered == []
    assert in_memory(address) == bytes(8)
    table.close()
