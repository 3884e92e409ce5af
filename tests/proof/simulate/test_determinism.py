"""The same seed and commit give the same run: in another process, with another hash seed, in any order."""

import os
import subprocess
import sys

import pytest

from proof.simulate.plan import draw_plan
from proof.simulate.run import run

pytestmark = pytest.mark.long

SEEDS = range(2)
SCRIPT = """
import sys
from proof.simulate.plan import draw_plan
from proof.simulate.run import run
for seed in sys.argv[1:]:
    print(run(draw_plan(int(seed))).digest)
"""


def digests(seeds: list[int], hash_seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, seeds)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_a_seed_is_a_run_in_any_process_and_order() -> None:
    first = digests(list(SEEDS), "1")
    assert len(set(first)) == len(SEEDS)
    assert digests(list(reversed(SEEDS)), "2")[::-1] == first
    assert [run(draw_plan(seed)).digest for seed in SEEDS] == first


def test_a_plan_that_keeps_all_is_the_same_run() -> None:
    whole = draw_plan(1)
    kept = whole.keeping(requests=range(len(whole.requests)), faults=range(len(whole.faults)))
    assert run(kept) == run(whole)
