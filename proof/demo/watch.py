"""Samples of P's blocks in use, taken in the background while a scenario runs."""

import threading
import time
from types import TracebackType
from typing import Self

import httpx

from proof.demo.outcome import HeldSeries
from proof.realengines.engine import Engine

SAMPLE_EVERY_S = 0.05


class HeldBlocksWatch:
    """Samples one engine's held blocks from its /metrics until it is left. A sample bears the time of its arrival, so
    a block is never said to be free before it was."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._samples: list[tuple[float, int]] = []
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._sample, name=f"watch-{engine.spec.name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        if error is None:
            self._thread.join()

    def series(self, zero: float) -> HeldSeries:
        """The samples so far, in seconds after `zero` (a time.monotonic value)."""
        return [(round(at - zero, 3), held) for at, held in list(self._samples)]

    def wait_until_free(self, timeout_s: float) -> float:
        """Waits for a sample of no held block, and returns its time.monotonic. Raises EngineError after `timeout_s`."""
        since = time.monotonic()
        self._engine.wait_until(lambda: self._free_at(since) is not None, "without held blocks", timeout_s)
        return self._free_at(since) or since

    def _free_at(self, since: float) -> float | None:
        return next((at for at, held in list(self._samples) if at >= since and held == 0), None)

    def _sample(self) -> None:
        while not self._left.is_set():
            try:
                held = self._engine.held_blocks()
            except (httpx.HTTPError, RuntimeError):
                # No answer just now, or the engine has been ended meanwhile: a gap in the curve.
                self._left.wait(SAMPLE_EVERY_S)
                continue
            self._samples.append((time.monotonic(), held))
            self._left.wait(SAMPLE_EVERY_S)
