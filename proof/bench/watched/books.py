"""The agents' own books with the protocol's facts told to nobody, to the histograms, and to a journal of events too."""

import time
from collections.abc import Callable
from pathlib import Path

from kvlease.events.journal import Journal
from kvlease.events.lines import Writer
from kvlease.events.recorder import FactRecorder
from kvlease.events.settings import EventSettings
from kvlease.metrics.observed import ObservedTimes
from kvlease.protocol.facts import Fact, Tell
from proof.bench.churn.books import warm_books
from proof.bench.frame.figures import FigureRow
from proof.bench.frame.pairs import paired

FLUSH_EVERY = 1_000
"""The leases after which the journals write what they have heard: 0.2 s of 5,000 a second, as the recorder's thread."""


class HeardBooks:
    """Books whose facts somebody hears."""

    def __init__(self, tell: Tell | None, flush: Callable[[], None]) -> None:
        self._books = warm_books(tell=tell)
        self._flush = flush

    def spend(self, leases: int) -> float:
        """Returns the processor seconds that so many leases take, whoever hears of them included."""
        before, flushed_s = self._books.spent_s, 0.0
        for _ in range(leases // FLUSH_EVERY):
            self._books.churn(FLUSH_EVERY)
            flushed_s += self._flushed_s()
        self._books.settle()
        return self._books.spent_s - before + flushed_s + self._flushed_s()

    def _flushed_s(self) -> float:
        began = time.thread_time()
        self._flush()
        return time.thread_time() - began


def heard_by_nobody() -> HeardBooks:
    return HeardBooks(None, lambda: None)


def heard_by_histograms() -> HeardBooks:
    """Books as in each engine: the histograms are always filled."""
    return HeardBooks(ObservedTimes().hear, lambda: None)


def heard_by_a_journal(folder: Path) -> HeardBooks:
    """Books as in an engine that writes the events of all leases."""
    times = ObservedTimes()
    recorder = FactRecorder([Journal(EventSettings(folder), Writer("both"))])

    def tell(fact: Fact) -> None:
        times.hear(fact)
        recorder.hear(fact)

    return HeardBooks(tell, recorder.flush)


def rows(pairs: int, leases: int, folder: Path) -> list[FigureRow]:
    """The cost of a lease on both sides together, each beside that of the books before."""
    arms = [heard_by_nobody(), heard_by_histograms(), heard_by_a_journal(folder)]
    found: list[list[float]] = [[] for _ in arms]
    for number in range(pairs):
        order = range(len(arms))
        for i in order if number % 2 == 0 else reversed(order):
            found[i].append(arms[i].spend(leases) / leases * 1e6)
    nobody, histograms, journal = found
    return [
        paired("a lease in both agents' books: histograms filled, and not", "µs", histograms, nobody),
        paired("… and all its events written, and not", "µs", journal, histograms),
    ]
