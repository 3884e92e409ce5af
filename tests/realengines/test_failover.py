"""A short run of `python -m proof failover`, through its command; the long form is `make failover`."""

import json
from pathlib import Path

import pytest

from proof.cli.main import main

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(400)]


def test_no_request_without_a_token_is_lost_while_a_d_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Behind `kvlease router` every request without a token is answered rightly, no prompt is prefilled twice, and P
    holds nothing afterwards."""
    chosen = ("--router", "kvlease", "--fault", "killed", "--streams", "8")
    status = main(["failover", *chosen, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert status == 0, said
    (scene,) = json.loads((tmp_path / "failover.json").read_text())["scenes"]
    assert scene["fault"] == "killed"
    assert scene["prefills"] == len(scene["requests"]) > 24
    assert {request["fate"] for request in scene["requests"]} <= {"right", "broken-off"}
