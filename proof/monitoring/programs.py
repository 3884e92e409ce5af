"""Prometheus and promtool on this machine: those of `make monitoring`, or installed ones."""

import shutil
import sys
from pathlib import Path

from kvlease.errors import KvLeaseError

FOLDER = Path(sys.prefix) / "prometheus"
"""The folder into which `requirements/prometheus.py` puts them."""


class NoPrometheus(KvLeaseError, RuntimeError):
    """Prometheus is not on this machine, or does not run. The message says what to do."""


def program(name: str) -> Path:
    """Returns the path of `prometheus` or `promtool`. Raises NoPrometheus where it is nowhere."""
    ours = FOLDER / name
    found = ours if ours.exists() else shutil.which(name)
    if found is None:
        raise NoPrometheus(f"{name} is not here: `make monitoring` fetches it, or install Prometheus 2.42 or later")
    return Path(found)
