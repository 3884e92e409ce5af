"""Fence words that a worker registers and its scheduler writes, in two processes of one host (S2)."""

import ctypes
import gc
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvlease.fence import FenceTable, MappedWords, NotShared, RegisteredWords, SharedMemory, SharedPlace
from kvlease.fence.words import word_view
from kvlease.testing.data_agent import FakeDataAgent
from tests.fence.neighbour import neighbour

TOKEN = 0xFEDC_BA98_7654_3210
DESCRIPTORS = Path("/proc/self/fd")


def place_of(memory: SharedMemory) -> SharedPlace:
    assert memory.place is not None
    return memory.place


@contextmanager
def none_left_open() -> Iterator[None]:
    """Asserts that what is done in it leaves no descriptor open."""
    # What earlier tests have left to the garbage collector is not to be closed meanwhile.
    gc.collect()
    before = sorted(path.name for path in DESCRIPTORS.iterdir())
    yield
    assert sorted(path.name for path in DESCRIPTORS.iterdir()) == before


def test_what_one_process_writes_the_other_reads_at_once() -> None:
    with neighbour(count=1000) as worker:
        scheduler = FenceTable(MappedWords(worker.place, 1000))
        for slot in (0, 1, 511, 512, 999):
            assert worker.ask("word", slot) == 0
            scheduler.arm(slot, TOKEN + slot)
            assert worker.ask("word", slot) == TOKEN + slot
            scheduler.clear(slot)
            assert worker.ask("word", slot) == 0
        worker.ask("arm", 7, TOKEN)
        assert scheduler.word(7) == TOKEN
        with pytest.raises(RuntimeError, match="slot 7 holds 0xfedcba9876543210"):
            scheduler.arm(7, 1)


def test_whoever_has_mapped_the_words_keeps_them_when_the_other_process_ends() -> None:
    """R12: a scheduler outlives a worker by a moment, and must not fall over the memory that it goes on writing."""
    with neighbour(count=4) as worker:
        scheduler = FenceTable(MappedWords(worker.place, 4))
        worker.ask("close")
        with pytest.raises(NotShared):
            MappedWords(worker.place, 4)
        scheduler.arm(0, TOKEN)
        assert worker.ask("word", 0) == TOKEN
    scheduler.clear(0)
    assert scheduler.word(0) == 0
    with pytest.raises(NotShared, match=f"/proc/{worker.place.pid}/fd/.* cannot be opened"):
        MappedWords(worker.place, 4)


def test_the_words_that_the_network_reads_are_the_shared_ones() -> None:
    agent, memory = FakeDataAgent(), SharedMemory(8)
    table = FenceTable(RegisteredWords(agent, 8, memory=memory.map))
    base, slots = table.address
    assert agent.registered == [((base, 64, 0, ""),)], "the number behind them is not the network's"
    assert (base % mmap.PAGESIZE, slots) == (0, 8)
    FenceTable(MappedWords(place_of(memory), 8)).arm(3, TOKEN)
    assert ctypes.string_at(table.address.word(3), 8) == bytes.fromhex("1032547698badcfe")
    memory.close()


def test_the_mapped_words_are_no_more_than_the_table() -> None:
    memory = SharedMemory(2)
    words = MappedWords(place_of(memory), 2)
    assert (len(words), words[0], words[1]) == (2, 0, 0)
    with pytest.raises(IndexError):
        words[2] = 1
    with pytest.raises(NotImplementedError, match="word 1 has its address in the process that registered it"):
        words.address(1)
    memory.close()


def test_two_engines_of_one_host_have_memory_of_their_own() -> None:
    one, other = SharedMemory(2), SharedMemory(2)
    MappedWords(place_of(one), 2)[0] = TOKEN
    assert MappedWords(place_of(other), 2)[0] == 0
    assert place_of(one).nonce != place_of(other).nonce
    one.close()
    other.close()


# -- places that mean something else here ------------------------------------------------------------------------


def refused(place: SharedPlace, count: int, why: str) -> None:
    with none_left_open(), pytest.raises(NotShared, match=why):
        MappedWords(place, count)


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    memory = SharedMemory(4)
    yield memory
    memory.close()


def test_a_process_that_is_not_here_shares_nothing(memory: SharedMemory) -> None:
    highest = int(Path("/proc/sys/kernel/pid_max").read_text())
    refused(place_of(memory)._replace(pid=highest + 1), 4, r"/proc/\d+/fd/\d+ cannot be opened: ")


def test_a_process_that_is_another_one_here_shares_nothing(memory: SharedMemory) -> None:
    with neighbour(count=4) as other:
        refused(other.place._replace(nonce=place_of(memory).nonce), 4, "belongs to another engine")
        refused(place_of(memory)._replace(pid=other.place.pid, descriptor=1 << 20), 4, "cannot be opened")


def test_a_descriptor_of_something_else_is_not_even_opened(memory: SharedMemory, tmp_path: Path) -> None:
    pipe = os.pipe()
    other = os.memfd_create("another")
    with (tmp_path / "file").open("wb+") as file:
        for descriptor in (*pipe, other, file.fileno()):
            refused(place_of(memory)._replace(descriptor=descriptor), 4, "is something else here")
    for descriptor in (*pipe, other):
        os.close(descriptor)


def test_memory_of_another_engine_is_told_by_its_number(memory: SharedMemory) -> None:
    refused(place_of(memory)._replace(nonce=place_of(memory).nonce ^ 1), 4, "belongs to another engine")
    refused(place_of(memory), 3, "belongs to another engine")


def test_memory_that_is_too_small_is_not_mapped(memory: SharedMemory) -> None:
    refused(place_of(memory), 1 << 20, "cannot be mapped: ")


def test_closed_memory_is_nobodys_even_if_its_descriptor_is_used_again() -> None:
    memory = SharedMemory(4)
    memory.close()
    memory.close()
    refused(place_of(memory), 4, "cannot be opened")
    another = SharedMemory(4)
    assert place_of(another).descriptor == place_of(memory).descriptor
    refused(place_of(memory), 4, "belongs to another engine")
    another.close()


# -- nothing is left behind --------------------------------------------------------------------------------------


def test_r12_nothing_is_left_behind() -> None:
    with none_left_open():
        memory = SharedMemory(4)
        mapped = MappedWords(place_of(memory), 4)
        mapped[0] = TOKEN
        memory.close()
        del memory, mapped
    assert not list(Path("/dev/shm").glob("*kvlease*"))


def test_a_process_that_is_started_does_not_inherit_the_memory(memory: SharedMemory) -> None:
    assert not os.get_inheritable(place_of(memory).descriptor)


def test_where_the_system_refuses_such_memory_nobody_shares_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hardened kernel or a sandbox has no memfd; workers write their words by order then, and the engine starts."""

    def refuse(_: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    memory = SharedMemory(2)
    assert memory.place is None
    assert list(word_view(memory.map)) == [0, 0, 0]
    memory.close()
