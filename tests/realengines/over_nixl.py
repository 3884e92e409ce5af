"""The incarnations of tests on real NIXL, and the same tests once more over TCP alone."""

import os
import subprocess
import sys

import pytest

ME, PEER, OTHER = 0xA, 0xFFFF_FFFF_FFFF_FFFF, 0xD
"""The incarnations of the test's own transport, of the peer's, and of a third."""
OVER_TCP = os.environ.get("UCX_TLS") == "tcp"


def pass_over_tcp(file: str, *chosen: str) -> None:
    """Asserts that the tests of this file, or those that pytest's arguments choose, pass over TCP alone, too."""
    if OVER_TCP:
        pytest.skip("this is the run over TCP")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, file],
        env={**os.environ, "UCX_TLS": "tcp"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:]
