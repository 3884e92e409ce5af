"""The wait of tests for other threads and processes."""

import time
from collections.abc import Callable

PATIENCE_S = 30.0
"""The time after which nothing is waited for any more: far more than it takes on a busy machine."""
POLL_S = 0.0005
"""The time between two questions. It is short, as many conditions make progress only while they are asked."""


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits until the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to it within {PATIENCE_S:g} s"
        time.sleep(POLL_S)
