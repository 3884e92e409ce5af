"""The simulation of a fleet agrees with real engines on one crash, which both play."""

import pytest

from kvlease.up.model import build_model
from proof.bench.engines.pair import choose_bench_cores
from proof.bench.reality.measure import SCENE, play_both
from proof.bench.reality.scene import Tolerance, apart

pytestmark = pytest.mark.engine

ON_A_BUSY_MACHINE = Tolerance(answered=0.4, block_s=0.6, left=0.7, free_after_s=3.0)
"""Twice the benchmark's bounds: it measures the engines' speed before the scene, and others may use the cores since."""


def test_the_simulation_agrees_with_real_engines_about_a_crash() -> None:
    real, simulated = play_both(SCENE, "kvlease", build_model("llama"), choose_bench_cores())
    assert apart(real, simulated, ON_A_BUSY_MACHINE) == [], f"real {real}, simulated {simulated}"
