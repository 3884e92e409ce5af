"""The command `python -m proof explore`: figures, exit statuses, replay."""

import json
from pathlib import Path

import pytest

from proof.cli.main import main
from tests.proof.pasted import pasted


def test_a_world_is_explored_and_its_figures_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "tiny", "--ticks", "0", "--out", str(tmp_path)]) == 0
    assert "explored completely" in capsys.readouterr().out
    (result,) = json.loads((tmp_path / "explore.json").read_text())
    assert result["complete"]
    assert result["states"] > 30
    assert result["bounds"]["ticks"] == 0


def test_a_broken_promise_is_told_and_can_be_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = ["--planted", "armed_after_prefill"]
    assert main(["explore", "tiny", *planted, "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "BROKEN S2" in told
    assert "P schedules a step with a prefill" in told
    (command,) = (line.removeprefix("  again: ") for line in told.splitlines() if line.startswith("  again: "))
    status, again = pasted(command)
    assert status == 1
    assert "BROKEN S2" in again
    (result,) = json.loads((tmp_path / "explore.json").read_text())
    numbers = ",".join(map(str, result["numbers"]))
    assert main(["explore", "tiny", "--replay", numbers]) == 0


def test_being_cut_off_is_not_success(tmp_path: Path) -> None:
    assert main(["explore", "fault", "--minutes", "0", "--out", str(tmp_path)]) == 3


def test_an_action_that_cannot_happen_is_a_bad_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "tiny", "--replay", "start"]) == 0
    assert main(["explore", "tiny", "--replay", "0,999"]) == 2
    message = capsys.readouterr().err
    assert "python -m proof explore: --replay: action 2 cannot be number 999" in message
    assert "can happen by then, counted from 0" in message


def test_without_rich_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kvlease.console.commands.find_spec", lambda _: None)
    assert main(["explore", "tiny"]) == 3
    assert "`pip install rich` installs it" in capsys.readouterr().out
