"""A short run of `python -m proof chaos`, through its command; the long form is `make chaos`."""

import json
from pathlib import Path

import pytest

from proof.cli.main import main

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

SEED = 1367
"""The seed of a run with these faults: a killed decode engine, a cut, a stalled decode engine. The term is short, since
nothing here depends on a lease that lives on."""
REQUESTS, FAULTS = 24, 3


@pytest.mark.parametrize("memory", ["full", pytest.param("half", marks=pytest.mark.wide)])
def test_faults_under_traffic_cost_no_answer_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], memory: str
) -> None:
    """R19, R12: every answer is right or says it is none, all blocks come free, no engine dies, nothing is left."""
    arguments = ["--seed", str(SEED), "--requests", str(REQUESTS), "--faults", str(FAULTS), "--out", str(tmp_path)]
    status = main(["chaos", *arguments, "--memory", memory])
    said = capsys.readouterr().out
    assert status == 0, said
    (run,) = json.loads((tmp_path / "chaos.json").read_text())["runs"]
    assert run["broken"] == {}
    assert sum(run["requests"].values()) == REQUESTS
    assert run["requests"].get("right", 0) >= REQUESTS / 2, said
    assert all(fault["free_s"] <= fault["bound_s"] for fault in run["faults"])
