"""The command line refuses what it cannot do, and says why."""

import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kvlease.console import commands
from kvlease.errors import KvLeaseError
from proof.chaos.schedule import CLIENTS, FAULTS, NETWORK_FAULTS, Schedule
from proof.cli import chaos, demo
from proof.cli.main import main


@pytest.fixture(autouse=True)
def _all_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets commands find all their parts, and keeps them from handling the signals of the test run."""
    monkeypatch.setattr(commands, "find_spec", lambda _: object())
    monkeypatch.setattr(commands, "_end_like_ctrl_c", lambda: None)


def test_alone_it_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("demo", ("stall", "long-step", "queue", "crash", "demo.json", "demo.png", "exit status")),
        ("chaos", (*FAULTS, *CLIENTS, "chaos.json", "namespaces", "exit status")),
    ],
)
def test_the_help_names_what_there_is_results_and_exit_codes(
    command: str, named: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    for word in named:
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("demo --scenario flood", ["'flood'", "'crash'", "'long-step'", "'queue'", "'stall'"]),
        ("demo --only other", ["'other'", "'stock'", "'kvlease'"]),
        ("demo --lease-s soon", ["'soon'", "from 1 to 60", "such as 6"]),
        ("demo --lease-s 0.5", ["0.5", "from 1 to 60"]),
        ("demo --lease-s nan", ["nan", "from 1 to 60"]),
        ("demo --model nowhere", ["'nowhere'", "config.json"]),
        ("chaos --seed x", ["--seed: 'x'", "whole number from 0 to", "such as 4"]),
        ("chaos --faults 0", ["--faults: '0'", "whole number from 1 to", "such as 40"]),
        ("chaos --requests 3", ["--requests: '3'", "whole number from 4 to", "such as 500"]),
        ("chaos --connector other", ["'other'", "'stock'", "'kvlease'"]),
        ("bench --only renewal,stpe", ["'stpe' is no benchmark: choose from renewal, step"]),
        ("simulate fuzz --runs 0", ["'0'", "whole number from 1"]),
        ("simulate fuzz --runs many", ["'many'", "whole number"]),
        ("simulate fuzz --minutes 0", ["'0'", "number of minutes"]),
        ("simulate fuzz --minutes nan", ["'nan'", "number of minutes"]),
        ("simulate fuzz --seed -1", ["--seed"]),
        ("simulate fuzz --jobs 0", ["'0'"]),
        ("simulate fuzz --planted nothing", ["'nothing'", "no_fence"]),
        ("simulate replay", ["SEED"]),
        ("simulate replay 1 --faults 1,x", ["'1,x'", "such as 3,7", "none"]),
        ("simulate planted nothing", ["'nothing'", "no_fence"]),
        ("explore nowhere", ["'nowhere'", "choose from tiny"]),
        ("explore tiny --kinds flood", ["'flood'", "choose from"]),
        ("explore tiny --ticks -1", ["--ticks"]),
        ("explore tiny --replay 0,x", ["--replay: '0,x'", "such as 3,0,7", "`start`"]),
        ("explore tiny --replay ''", ["--replay: ''"]),
        ("explore tiny --replay -1", ["--replay"]),
    ],
)
def test_a_bad_argument_is_named_with_what_is_allowed(
    arguments: str, named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(shlex.split(arguments))
    assert refused.value.code == 2
    message = capsys.readouterr().err
    for part in named:
        assert part in message


def test_too_few_requests_for_the_faults_are_refused_with_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos", "--requests", "30", "--faults", "10"]) == 2
    message = capsys.readouterr().err
    assert "--requests 30 is too few for --faults 10: give --requests 40 or more, or --faults 7 or less" in message


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ([], "0 are named: name one, such as peer"),
        (["peer", "client"], "2 are named"),
        (["peer"], "missing is no file"),
    ],
)
def test_what_cannot_be_replayed_is_refused_with_what_to_give(
    targets: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuzz-bytes", *targets, "--replay", str(tmp_path / "missing")]) == 2
    assert said in capsys.readouterr().err


def test_an_input_that_breaks_nothing_is_replayed_and_said_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "find_spec", lambda _: object())
    monkeypatch.setattr(commands, "_end_like_ctrl_c", lambda: None)
    (tmp_path / "input").write_bytes(b"any bytes")
    assert main(["fuzz-bytes", "peer", "--replay", str(tmp_path / "input")]) == 0
    assert "breaks nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [(KeyboardInterrupt(), 130, "ended"), (KvLeaseError("engine p died"), 3, "engine p died")],
)
@pytest.mark.parametrize("command", [chaos, demo])
def test_whatever_ends_the_play_ends_in_a_sentence(
    command: ModuleType,
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any) -> int:
        raise error

    monkeypatch.setattr(command, "_play_and_report", fail)
    assert main([command.__name__.rpartition(".")[2]]) == status
    assert said in capsys.readouterr().out


def test_without_namespaces_one_line_says_why_and_other_faults_are_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    drawn: list[Schedule] = []

    async def play(_: Any, schedule: Schedule, *__: Any) -> Any:
        drawn.append(schedule)
        raise KvLeaseError("enough")

    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("proof.chaos.play.play", play)
    (tmp_path / "config.json").touch()
    assert main(["chaos", "--seed", "1", "--model", str(tmp_path)]) == 3
    (schedule,) = drawn
    assert not NETWORK_FAULTS & {which.fault.kind for which in schedule.rounds}
    assert capsys.readouterr().out.count("making network namespaces takes root") == 1


def played(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The choices that the demo would play with these arguments."""
    seen: dict[str, Any] = {}

    def record(chosen: Any, connectors: Any, scenarios: Any) -> int:
        seen.update(vars(chosen), connectors=list(connectors), scenarios=list(scenarios))
        return 0

    monkeypatch.setattr(demo, "_play_and_report", record)
    assert main(["demo", *arguments]) == 0
    return seen


def test_everything_is_played_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = played([], monkeypatch)
    assert seen["connectors"] == ["stock", "kvlease"]
    assert seen["scenarios"] == ["stall", "stall-free", "long-step", "queue", "failover", "crash"]
    assert (seen["lease_s"], seen["out"], seen["model"]) == (6.0, Path("out"), None)


def test_what_is_chosen_is_played_in_the_usual_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    seen = played(
        [
            "--scenario",
            "crash",
            "--scenario",
            "stall",
            "--only",
            "kvlease",
            "--lease-s",
            "4.5",
            "--model",
            str(tmp_path),
        ],
        monkeypatch,
    )
    assert seen["connectors"] == ["kvlease"]
    assert seen["scenarios"] == ["stall", "crash"]
    assert (seen["lease_s"], seen["model"]) == (4.5, tmp_path)


def test_missing_parts_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "find_spec", lambda name: None if name == "vllm" else object())
    assert main(["demo"]) == 3
    output = capsys.readouterr().out
    assert "vllm" in output
    assert "make demo" in output
