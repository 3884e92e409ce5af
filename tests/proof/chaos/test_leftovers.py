"""The report of what chaos leaves behind names exactly what is left."""

import os
import subprocess
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import psutil
import pytest

from kvlease.metrics.scraped import Metrics
from proof.chaos import leftovers
from proof.chaos.leftovers import left_behind, named_gauges, shared_memory
from proof.chaos.scene import MARK


@pytest.fixture
def no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Hides the machine's shared memory, which other processes make and remove meanwhile."""
    monkeypatch.setattr(leftovers, "_SHARED_MEMORY", tmp_path)
    return set()


def test_nothing_is_left_where_nothing_was_made(no_memory: set[str]) -> None:
    assert left_behind({}, [], "a mark of nobody", no_memory, ["kvlease-1-1-p"]).names() == []


def test_only_lapsed_leases_may_keep_a_slot() -> None:
    lapsed = "kvlease:fence_slots_used 3\nkvlease:lapsed_leases 3\nkvlease:held_blocks 0\n"
    assert not any(named_gauges("p", Metrics.parse(lapsed)).values())
    leaked = named_gauges("p", Metrics.parse(lapsed.replace(" 3", " 4", 1)))
    assert {name for name, value in leaked.items() if value} == {"p: kvlease:fence_slots_used but for lapsed leases"}


def test_a_process_that_bears_the_mark_is_found_whatever_group_it_is_in(no_memory: set[str]) -> None:
    mark = f"test-{os.getpid()}"
    process = subprocess.Popen(["sleep", "60"], env={MARK: mark, "PATH": os.environ["PATH"]}, start_new_session=True)
    try:
        _wait_for_environment(process)
        assert left_behind({}, [], mark, no_memory, []).names() == [f"process {process.pid}"]
    finally:
        process.kill()
        process.wait()


def _wait_for_environment(process: "subprocess.Popen[bytes]") -> None:
    """Waits until the process has an environment: Popen returns in the midst of exec, when the old memory is gone and
    the new environment is not there yet. On a busy machine /proc showed none for 4 of 6,000 processes."""
    while process.poll() is None and not psutil.Process(process.pid).environ():
        time.sleep(0.001)


def test_shared_memory_that_was_not_there_before_is_found_unless_somebody_uses_it() -> None:
    before = shared_memory()
    segment = SharedMemory(create=True, size=16)
    path = f"/dev/shm/{segment.name}"
    try:
        assert path not in left_behind({}, [], "", before, []).shared_memory
        segment.close()
        assert path in left_behind({}, [], "", before, []).shared_memory
    finally:
        segment.unlink()


def test_a_namespace_that_is_still_there_is_found(
    no_memory: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made := tmp_path / "netns").mkdir()
    monkeypatch.setattr(leftovers, "NAMESPACES", made)
    (made / "kvlease-1-1-p").touch()
    no_memory.add("netns")
    assert left_behind({}, [], "", no_memory, ["kvlease-1-1-p", "kvlease-1-1-d1"]).names() == ["kvlease-1-1-p"]
