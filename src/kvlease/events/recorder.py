"""Facts on their way from the engine's threads to whoever keeps them, which is done in a thread of its own."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from kvlease.logs import bounded_logger
from kvlease.protocol.engine_facts import Told

bounded = bounded_logger(__name__)

LIMIT = 65_536
"""The most facts that wait: some 20 MB. A busy engine makes a few thousand a second."""
PERIOD_S = 0.2
"""The pause between two looks at what waits: what a killed engine has not written is younger."""
CLOSE_S = 2.0
"""The longest time that an engine's shutdown waits for the last facts to be written."""

Heard = tuple[float, Told]
"""A fact, and the time (Unix seconds) at which it was told."""


class Sink(Protocol):
    """The keeper of facts: a journal, or spans. Used by the recorder's thread alone."""

    def take(self, heard: Sequence[Heard], dropped: int) -> None:
        """Takes facts in the order in which they were told. `dropped`: those lost since the last call."""

    def close(self) -> None:
        """There are no more facts."""


class FactRecorder:
    """Hears facts in any thread, and hands them to sinks in its own. It waits for nobody: facts that find no room are
    counted and dropped.

    Attributes: `dropped`: facts that were dropped since the start.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        limit: int = LIMIT,
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives Unix seconds."""
        self.dropped = 0
        self._sinks = sinks
        self._limit = limit
        self._period_s = period_s
        self._clock = clock
        self._heard: deque[Heard] = deque()
        self._told_dropped = 0
        self._lost = [0] * len(sinks)
        """The facts that each sink has lost by an error, which it was not told yet."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kvlease-events", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def hear(self, told: Told) -> None:
        """Takes a fact (`kvlease.protocol.facts.Tell`)."""
        if len(self._heard) >= self._limit:
            self.dropped += 1
            return
        self._heard.append((self._clock(), told))

    def flush(self) -> None:
        """Hands over what waits. Only the recorder's thread calls it, or nobody else where it is not started."""
        # Only what is here now: others go on appending.
        heard = [self._heard.popleft() for _ in range(len(self._heard))]
        dropped, self._told_dropped = self.dropped - self._told_dropped, self.dropped
        if dropped:
            bounded.warning("kvlease: %d events were dropped, since there were too many at once", dropped)
        if not heard and not dropped:
            return
        for number, sink in enumerate(self._sinks):
            lost, self._lost[number] = self._lost[number] + dropped, 0
            try:
                sink.take(heard, lost)
            except Exception:  # noqa: BLE001 - it is logged, and counted
                # Whoever only watches must not end what is watched.
                self._lost[number] = lost + len(heard)
                bounded.exception("kvlease: %d events were lost by an error in writing them down", len(heard))

    def close(self) -> None:
        """Has the last facts kept, and ends the thread; a no-op when it has ended."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._closing.wait(self._period_s):
            self.flush()
        self.flush()
        for sink in self._sinks:
            sink.close()
