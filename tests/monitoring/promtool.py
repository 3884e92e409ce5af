"""The program with which Prometheus checks its own files."""

import subprocess
from pathlib import Path

from proof.monitoring.programs import program


def promtool(*arguments: str, folder: Path) -> str:
    """Runs promtool in a folder and returns what it says. Raises AssertionError with that where it finds a fault."""
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
