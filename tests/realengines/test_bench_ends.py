"""The benchmark of leases that are over runs on real engines, and what has nothing to do with speed is as promised."""

from pathlib import Path

import pytest

from proof.bench.ends.figures import READS
from proof.bench.frame.document import read
from proof.bench.frame.figures import Effort
from proof.bench.frame.one import main

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(900)]

OF_SPEED = ("no later than stock's", "within", "processor time", "takes less than")


def test_leases_that_are_over_are_measured_beside_stock(tmp_path: Path) -> None:
    """R23, S1: late and repeated reads are right; times are measured, and judged by `make bench` alone."""
    assert main("ends", Effort.SHORT, tmp_path) == 0
    found = read(tmp_path / "ends.json")
    assert {row.what.removesuffix(": right") for row in found.rows} >= READS.keys()
    missed = [goal for goal in found.missed if not any(part in goal.text for part in OF_SPEED)]
    assert missed == []
