"""Engines that write down their pool and their steps, and what is read out of that. Classes stand in for vLLM's."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proof.bench.ends import probe
from proof.bench.ends.probe import POOL, STEPS, Record, record_path, watch_pool, watch_steps
from proof.bench.ends.watch import Watch, launcher


class Pool:
    """A pool of 11 blocks, of which one is the null block. Each call takes or frees as many as it is told."""

    def __init__(self) -> None:
        self.num_gpu_blocks = 11
        self.free = 10

    def get_num_free_blocks(self) -> int:
        return self.free

    def get_new_blocks(self, number: int) -> list[int]:
        self.free -= number
        return [0] * number

    def touch(self, number: int) -> None:
        self.free -= number

    def free_blocks(self, number: int) -> None:
        self.free += number

    def unpin_blocks(self, number: int, on_reuse: Any) -> None:
        del on_reuse
        self.free += number


class Scheduler:
    def schedule(self, throttle_prefills: bool = False, tokens: int = 0) -> Any:
        del throttle_prefills
        return SimpleNamespace(total_num_scheduled_tokens=tokens)


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path, "P")


@pytest.fixture
def pool(tmp_path: Path) -> Any:
    class Watched(Pool):
        pass

    watch_pool(Watched, Record(record_path(tmp_path, "P", POOL)))
    return Watched()


def write(watch: Watch, what: str, *lines: tuple[float, int], half: str = "") -> None:
    text = "".join(f"{at} {number}\n" for at, number in lines)
    record_path(watch.directory, watch.name, what).write_text(text + half)


def test_every_change_of_the_pool_is_written_down_and_nothing_else(pool: Any, watch: Watch) -> None:
    assert pool.get_new_blocks(4) == [0] * 4
    pool.touch(0)
    pool.unpin_blocks(1, on_reuse=None)
    pool.touch(1)
    pool.free_blocks(4)
    lines = record_path(watch.directory, "P", POOL).read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["4", "3", "4", "0"]


def test_the_pool_is_whole_when_its_last_block_is_back(pool: Any, watch: Watch) -> None:
    began = time.monotonic()
    assert watch.whole_at(began) is None
    pool.get_new_blocks(4)
    pool.free_blocks(3)
    assert watch.whole_at(began) is None
    before = time.monotonic()
    pool.unpin_blocks(1, on_reuse=None)
    whole = watch.whole_at(began)
    assert whole is not None
    assert before - 0.001 <= whole <= time.monotonic()


def test_what_was_before_and_half_a_line_do_not_count(watch: Watch) -> None:
    write(watch, POOL, (1.0, 4), (2.0, 0), half="5.0 0")
    assert watch.whole_at(0.5) == 2.0
    assert watch.whole_at(3.0) is None
    write(watch, POOL, (1.0, 4), (2.0, 0), (3.0, 7), half="4.0 0")
    assert watch.whole_at(0.5) is None


def test_an_empty_pool_counts_from_the_moment_at_which_it_was_whole(watch: Watch) -> None:
    write(watch, POOL, (1.0, 4), (2.0, 0), (3.0, 5), (4.0, 0))
    assert watch.whole_at(0.5) == 4.0


def test_a_prompt_that_is_computed_is_told_from_one_that_is_read(tmp_path: Path, watch: Watch) -> None:
    class Watched(Scheduler):
        pass

    watch_steps(Watched, Record(record_path(tmp_path, "P", STEPS)))
    began = time.monotonic()
    assert Watched().schedule(tokens=0).total_num_scheduled_tokens == 0
    assert not record_path(tmp_path, "P", STEPS).exists()
    Watched().schedule(True, tokens=3)
    assert not watch.computed(began)
    Watched().schedule(tokens=1500)
    assert watch.computed(began)
    assert not watch.computed(time.monotonic())


def test_the_probe_becomes_no_other_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["probe", "/tmp", "P", "python", "-m", "http.server"])
    with pytest.raises(SystemExit, match=r"cannot become http\.server"):
        probe.main()


def test_the_launcher_names_the_probe_and_where_it_writes(tmp_path: Path) -> None:
    assert launcher(tmp_path, "stock-P")[1:] == ("-m", "proof.bench.ends.probe", str(tmp_path), "stock-P")
