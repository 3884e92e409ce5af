"""The memory that leases take, and how often they ask for some."""

import gc
import secrets
import tempfile
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from kvlease.agent.core import AgentCore
from kvlease.protocol import Endpoint, Fingerprint, LeaseRef
from proof.bench.churn.books import BATCH, HOLD_S, ChurnBooks, warm_books
from proof.bench.churn.engines import PRODUCER, SIDE_CHANNEL, ChurnConsumer, ChurnProducer, LeasesStayed
from proof.bench.frame.errors import require

TURNS = 10_000
"""The turns of the agents within which every claim is with the producer."""


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of Python's memory for each of many leases."""

    producer: float
    consumer: float
    peak: float
    """The most that both took together, while the leases were granted and claimed."""


def space(leases: int) -> Space:
    """Measures the memory of so many leases that are out and claimed.

    The names of the requests are not counted: an engine keeps them anyhow.
    """
    books = warm_books()
    holders = [f"cmpl-{number:08x}" for number in range(leases)]
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        _claim(books, holders)
        gc.collect()
        both, peak = tracemalloc.get_traced_memory()
        # The consumer's engine holds the agent, too, and has to go with it.
        del books.consumer, books.consumer_agent
        gc.collect()
        producer, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return Space((producer - before) / leases, (both - producer) / leases, (peak - before) / leases)


def _claim(books: ChurnBooks, holders: list[str]) -> None:
    claims_before = _claims(books)
    for number, holder in enumerate(holders, start=1):
        token = secrets.randbits(64) | 1
        books.producer_agent.grant(token)
        # The consumer reads the token from its request: an integer of its own.
        books.consumer_agent.track(
            holder, LeaseRef(PRODUCER, int(f"{token:x}", 16), 0, 30_000, Fingerprint(1, 0)), SIDE_CHANNEL
        )
        if number % BATCH == 0:
            books.turn()
            books.turn()
    for _ in range(TURNS):
        if _claims(books) - claims_before == len(holders):
            return
        books.turn()
    raise LeasesStayed(f"of {len(holders)} leases, {_claims(books) - claims_before} were claimed after {TURNS} turns")


def _claims(books: ChurnBooks) -> int:
    return books.producer_agent.report().lessor.get("claims", 0)


def left_behind(leases: int) -> float:
    """Returns the bytes a lease that are not given back when so many are over, after as many were over before."""
    books = warm_books()
    tracemalloc.start()
    try:
        before = _after_churn(books, leases)
        return (_after_churn(books, leases) - before) / leases
    finally:
        tracemalloc.stop()


def _after_churn(books: ChurnBooks, leases: int) -> int:
    books.churn(leases)
    books.settle()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def allocations(leases: int) -> float:
    """Counts how often a lease asks for memory, from its grant to its end, on both sides. Raises `CannotRun`."""
    require("memray")
    return (_asked(warm_books(), leases) - _asked(_nobodys_books(), leases)) / leases


def _asked(books: ChurnBooks, leases: int) -> int:
    from memray import AllocatorType, FileReader, Tracker

    freeing = {AllocatorType.FREE, AllocatorType.PYMALLOC_FREE, AllocatorType.MUNMAP}

    with tempfile.TemporaryDirectory() as directory:
        record = Path(directory) / "record"
        gc.collect()
        with Tracker(record, trace_python_allocators=True):
            books.churn(leases)
        # The count in memray's own summary includes what was given back.
        return sum(1 for each in FileReader(record).get_allocation_records() if each.allocator not in freeing)


class _Nobody:
    """An agent that does nothing, which leaves what the engines of this benchmark ask for themselves."""

    def grant(self, token: int) -> None: ...

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint) -> None: ...

    def untrack(self, holder: str) -> None: ...

    def progress(self) -> None: ...

    def turn(self, now: float) -> None: ...

    def take_news(self) -> list[object]:
        return []

    def take_lost(self) -> list[object]:
        return []


def _nobodys_books() -> ChurnBooks:
    books = ChurnBooks()
    nobody = cast(AgentCore, _Nobody())
    books.producer_agent = books.consumer_agent = nobody
    books.producer, books.consumer = ChurnProducer(nobody), ChurnConsumer(nobody, HOLD_S)
    books.churn(BATCH)
    return books
