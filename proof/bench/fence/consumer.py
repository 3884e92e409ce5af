"""The consumer that reads: data alone, data with stock's notice, data and then the fence, in turn."""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from kvlease.agent.nixl import errors_of
from kvlease.fence import CAPACITY, FenceVerifier, FenceWord, RegisteredWords, Verdict
from proof.bench.fence.setting import (
    DATA,
    MB,
    PAGE_BYTES,
    SHUFFLE,
    SLOT,
    TOKEN,
    Setting,
    WorkerAddress,
    allocate,
    holds,
)


class NotIntact(Exception):
    """The fence did not say what it had to: something else was measured than was meant."""


@dataclass(frozen=True, slots=True)
class Reads:
    """The times of one round of reads of the same pages, in seconds."""

    alone_s: float
    noticed_s: float
    """A read with the notice that stock attaches."""
    fenced_s: float
    """A read with the fence read after it, to the verdict."""
    fence_s: float
    """The part of that which came after the data."""
    ready_s: float
    """The part of that in which the fence was made ready while the data was on its way."""


def consume(parent: Connection, setting: Setting, producers: list[WorkerAddress], repeats: dict[int, int]) -> None:
    """Send the reads of each size (MB), as a dict, to the parent; this runs in a process of its own."""
    consumer = _Consumer(setting, producers, max(repeats) * MB)
    found = {size: consumer.measure(size * MB, times) for size, times in repeats.items()}
    consumer.check()
    parent.send(found)
    consumer.verifier.close()


class _Consumer:
    def __init__(self, setting: Setting, producers: list[WorkerAddress], size: int) -> None:
        from nixl._api import nixl_agent, nixl_agent_config

        # A progress thread would only share this core with the thread that polls, which makes progress itself.
        config = nixl_agent_config(enable_prog_thread=False, capture_telemetry=True)
        self._agent = nixl_agent(f"consumer-{os.getpid()}", config)
        self.verifier = FenceVerifier(self._agent, RegisteredWords(self._agent, CAPACITY), errors=errors_of("nixl"))
        self._region = allocate(setting.memory, size, 0)
        self._agent.register_memory(self._agent.get_reg_descs([(self._region.base, size, 0, "")], setting.memory))
        names = [_text(self._agent.add_remote_agent(producer.metadata)) for producer in producers]
        self._part = size // len(producers) // PAGE_BYTES
        self._local = self._prepare("NIXL_INIT_AGENT", self._region.base, size, setting.memory)
        self._remote = [
            self._prepare(name, producer.base, size // len(producers), setting.memory)
            for name, producer in zip(names, producers, strict=True)
        ]
        self._words = [
            FenceWord(name, producer.fence.word(SLOT), TOKEN) for name, producer in zip(names, producers, strict=True)
        ]
        self._random = random.Random(SHUFFLE)

    def _prepare(self, agent: str, base: int, size: int, memory: str) -> Any:
        import numpy as np

        pages = np.array([(at, PAGE_BYTES, 0) for at in range(base, base + size, PAGE_BYTES)], dtype=np.uint64)
        return self._agent.prep_xfer_dlist(agent, self._agent.get_xfer_descs(pages, memory))

    def measure(self, size: int, times: int) -> list[Reads]:
        """Measure the reads of one size; the first round is thrown away, as connections are made in it."""
        return [self._reads(size, number) for number in range(times + 1)][1:]

    def check(self) -> None:
        """Check that all pages, which the largest size reads, hold what the producer's do. Raises `NotIntact`."""
        if not holds(self._region, DATA):
            raise NotIntact("not all of the data has arrived")

    def _reads(self, size: int, number: int) -> Reads:
        """Time the three kinds of reads, in an order that rotates from one time to the next."""
        pages = self._pages(size)
        kinds = [self._alone, self._noticed, self._fenced]
        took: dict[int, tuple[float, float, float]] = {}
        for turn in range(len(kinds)):
            kind = (number + turn) % len(kinds)
            took[kind] = kinds[kind](pages)
        (alone_s, *_), (noticed_s, *_), (data_s, fence_s, ready_s) = took[0], took[1], took[2]
        return Reads(alone_s, noticed_s, data_s + fence_s, fence_s, ready_s)

    def _pages(self, size: int) -> list[tuple[Any, Any]]:
        """The indices of as many local and remote pages, scattered, for each of the producer's workers."""
        import numpy as np

        count = max(1, size // PAGE_BYTES // len(self._remote))
        chosen = []
        for worker in range(len(self._remote)):
            local = self._random.sample(range(worker * self._part, (worker + 1) * self._part), count)
            remote = self._random.sample(range(self._part), count)
            chosen.append((np.array(local, dtype=np.int32), np.array(remote, dtype=np.int32)))
        return chosen

    def _alone(self, pages: list[tuple[Any, Any]]) -> tuple[float, float, float]:
        return self._read(pages, b"", _nothing)[0], 0.0, 0.0

    def _noticed(self, pages: list[tuple[Any, Any]]) -> tuple[float, float, float]:
        return self._read(pages, b"cmpl-0123456789abcdef-0-01234567:1", _nothing)[0], 0.0, 0.0

    def _fenced(self, pages: list[tuple[Any, Any]]) -> tuple[float, float, float]:
        """Read with a fence as the connector does: it is made ready while the data is on its way, and read then."""
        data_s, ready_s = self._read(pages, b"", lambda: self.verifier.stage("request", self._words))
        start = time.perf_counter()
        self.verifier.post("request", self._words)
        verdicts = self.verifier.settle()
        while not verdicts:
            verdicts = self.verifier.settle()
        took_s = time.perf_counter() - start
        if verdicts["request"] is not Verdict.INTACT:
            raise NotIntact(f"the fence is {verdicts['request'].name.lower()}, it has to be intact")
        return data_s, took_s, ready_s

    def _read(self, pages: list[tuple[Any, Any]], notice: bytes, meanwhile: Callable[[], None]) -> tuple[float, float]:
        """Read as vLLM's worker does; returns the seconds until all pages have come, and those of `meanwhile`."""
        start = time.perf_counter()
        handles = []
        for remote, (local_ids, remote_ids) in zip(self._remote, pages, strict=True):
            handle = self._agent.make_prepped_xfer("READ", self._local, local_ids, remote, remote_ids, notif_msg=notice)
            self._agent.transfer(handle)
            handles.append(handle)
        posted = time.perf_counter()
        meanwhile()
        meanwhile_s = time.perf_counter() - posted
        while handles:
            handles = [handle for handle in handles if not self._arrived(handle)]
        return time.perf_counter() - start, meanwhile_s

    def _arrived(self, handle: Any) -> bool:
        state = self._agent.check_xfer_state(handle)
        if state == "PROC":
            return False
        if state != "DONE":
            raise NotIntact(f"a read of data ended as {state}")
        self._agent.get_xfer_telemetry(handle)
        self._agent.release_xfer_handle(handle)
        return True


def _nothing() -> None:
    """Does nothing while the data is on its way."""


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
