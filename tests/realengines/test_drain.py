"""A short run of `python -m proof drain`, through its command; the long form is `make drain`."""

import json
from pathlib import Path

import pytest

from proof.cli.main import main

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(400)]

STOPS = 3


def test_a_drained_p_stops_under_traffic_and_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """P is drained through both doors; every answer is right, and no drain is longer than its reads by a second."""
    status = main(["drain", "--stops", str(STOPS), "--at-once", "0", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert status == 0, said
    (run,) = json.loads((tmp_path / "drain.json").read_text())["runs"]
    assert [stop["door"] for stop in run["stops"]] == ["vllm", "listener", "vllm"]
    assert run["answers"] == {"right": len(run["requests"])}
    assert all(stop["left"] == 0 for stop in run["stops"])
    assert any(stop["out"] > 0 for stop in run["stops"])
    assert run["with_ps_prefill"] > STOPS
