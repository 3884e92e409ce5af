"""The account that a failed test gives of its engines and of the machine: nobody can ask either afterwards."""

import re
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from kvlease.metrics.scraped import Sample
from proof.realengines.engine import Engine

STANDSTILL_S = 0.5
POLL_S = 0.05
LINES = 15
READY = "Application startup complete."
"""A line that an engine logs once a start, after the same dozen warnings whatever is tested."""
_TELLING = re.compile(r"^E\d{4} |UCX +ERROR| (WARNING|ERROR) ")


def account_of(engine: Engine) -> str:
    """kvlease's metrics of an engine that are not 0, and its warnings since it was ready, or all if it never was."""
    try:
        ours = [s for s in engine.metrics().samples if s.name.startswith("kvlease:") and not s.name.endswith("_bucket")]
        metrics = "; ".join(_spoken(s) for s in ours if s.value and not s.name.endswith("_created"))
    except httpx.HTTPError as e:
        metrics = f"no metrics: {e!r}"
    log = engine.log_path.read_text(errors="replace") if engine.log_path.exists() else ""
    telling = [line[:240] for line in log.rpartition(READY)[2].splitlines() if _TELLING.search(line)]
    return "\n".join([metrics, *telling[-LINES:]])


def _spoken(sample: Sample) -> str:
    labels = (value for key, value in sample.labels.items() if key not in ("engine", "model_name"))
    return " ".join([sample.name.removeprefix("kvlease:"), *labels, f"{sample.value:g}"])


class StandstillWatch:
    """Notes the times in which this process did not run at all: its machine stood still, or gave it no processor time.

    It adds the processor time that the host took from the machine, and the time spent waiting for disk or memory.
    """

    def __init__(self) -> None:
        self._gaps: list[str] = []
        self._began = time.monotonic()
        self._pressure: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="standstill-watch", daemon=True)

    def begin(self) -> None:
        """Forgets all that was noted before, since a test begins."""
        if not self._thread.is_alive():
            self._thread.start()
        self._gaps.clear()
        self._began = time.monotonic()
        self._pressure = _pressure()

    def __str__(self) -> str:
        waited = {name: total - self._pressure.get(name, 0.0) for name, total in _pressure().items()}
        pressure = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in waited.items())
        return f"{time.monotonic() - self._began:.0f} s into the test; stood still: {self._gaps or 'never'}; {pressure}"

    def _run(self) -> None:
        while True:
            slept_at = time.monotonic()
            time.sleep(POLL_S)
            gap_s = time.monotonic() - slept_at
            if gap_s > STANDSTILL_S:
                self._gaps.append(f"{gap_s:.1f} s after {slept_at - self._began:.0f} s")


def _pressure() -> dict[str, float]:
    """The seconds since the machine started that processes waited, by resource, where the kernel tells."""
    totals = {}
    for resource in ("cpu", "io", "memory"):
        path = Path("/proc/pressure") / resource
        # psutil does not read pressure. Some kernels do not measure it, and one that was told not to has a file that
        # cannot be read.
        with suppress(OSError):
            if match := re.search(r"some .*total=(\d+)", path.read_text()):
                totals[f"waited for {resource}"] = int(match[1]) / 1e6
    return totals | {"stolen by the host": psutil.cpu_times().steal}
