"""Logging at a bounded rate: a fleet in trouble must not drown its operators in one line a message (R13)."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

PERIOD_S = 60.0


class OncePerPeriod(logging.Filter):
    """Lets each logging call through once a period, and then says how many lines were left out since.

    It is for loggers of what others do wrong. It counts by place in the code, so it holds as many entries as there are
    logging calls.
    """

    def __init__(self, period_s: float = PERIOD_S) -> None:
        super().__init__()
        self._period_s = period_s
        self._last: dict[tuple[str, int], float] = {}
        self._left_out: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        place = (record.pathname, record.lineno)
        now = time.monotonic()
        if now - self._last.get(place, float("-inf")) < self._period_s:
            self._left_out[place] = self._left_out.get(place, 0) + 1
            return False
        self._last[place] = now
        if left_out := self._left_out.pop(place, 0):
            record.msg = f"{record.msg} ({left_out} more like it since the last line)"
        return True


def bounded_logger(name: str) -> logging.Logger:
    """Returns a logger that writes at most one line a minute from each place in the code."""
    logger = logging.getLogger(f"{name}.bounded")
    if not logger.filters:
        logger.addFilter(OncePerPeriod())
    return logger


@contextmanager
def silenced() -> Iterator[None]:
    """A context in which kvlease logs nothing: for runs under planned faults, which are reported by other means."""
    logger = logging.getLogger("kvlease")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
