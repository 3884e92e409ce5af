"""The commands `kvlease fleet compare` and `kvlease fleet plan`: refusals, reports, and the runs they play."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from kvlease.cli import main
from kvlease.console import commands
from kvlease.fleet import compare as compare_module
from kvlease.fleet.scenarios import TOO_MUCH, USUAL_LOAD
from kvlease.protocol.config import resolve
from tests.cli.bare import refused_bare
from tests.fleet.outcomes import outcome, with_

pytestmark = pytest.mark.long

SMALL = "--producers 2 --consumers 3 --jobs 1"


@pytest.fixture(autouse=True)
def _leave_signals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_end_like_ctrl_c", lambda: None)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the plots out of pages: they would take most of a short run's time, and are drawn by others here."""
    monkeypatch.setattr("kvlease.fleet.report.over_time", lambda _: "data:,")


def said(arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(shlex.split(arguments))
    captured = capsys.readouterr()
    return status, " ".join(captured.out.split()), captured.err


def refused(arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_info:
        main(shlex.split(arguments))
    assert exit_info.value.code == 2
    return capsys.readouterr().err


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("compare --producers 0", ["'0'", "from 1"]),
        ("compare --consumers many", ["'many'", "whole number"]),
        ("compare --requests 9999999999999", ["whole number"]),
        ("compare --scenario flood", ["'flood'", "'crashes'"]),
        ("compare --policy other", ["'other'", "flat-480", "kvlease-10"]),
        ("compare --policy flat", ["'flat'", "flat-480"]),
        ("compare --policy flat-nan", ["nan", "480"]),
        ("compare --policy flat-x", ["'x'", "'flat-x'"]),
        ("compare --policy stock-2.5", ["'stock-2.5'", "whole seconds"]),
        ("compare --policy stock-inf", ["'stock-inf'", "whole seconds"]),
        ("compare --policy kvlease-0.1", ["0.1", "from 1"]),
        ("compare --set seats=5", ["'seats'", "consumer_seats"]),
        ("compare --set producer_blocks=5", ["'producer_blocks'", "consumer_blocks"]),
        ("compare --set consumer_seats", ["consumer_seats", "such as 128"]),
        ("compare --set consumer_seats=2.5", ["'consumer_seats=2.5'", "such as 128"]),
        ("compare --set takeover=yes", ["'takeover=yes'", "such as false"]),
        ("compare --rate 0", ["'0'", "from 0.001"]),
        ("compare --rate nan", ["'nan'", "number"]),
        ("compare --seed -1", ["--seed"]),
        ("compare --jobs 0", ["'0'"]),
        ("plan --stall -1", ["--stall"]),
        ("plan --crashes-per-hour x", ["'x'", "number"]),
        ("plan --lost-requests 2", ["'2'", "from 0 to 1"]),
        ("plan --sample 3", ["'3'", "from 100"]),
        ("plan --scenario calm", ["--scenario"]),
    ],
)
def test_a_bad_argument_is_named_with_what_is_allowed(
    arguments: str, named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(f"fleet {arguments}", capsys)
    for part in named:
        assert part in message


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--set step_fixed_s=0", ["step_fixed_s", "above 0"]),
        ("--set reuse=random", ["reuse", "'random'", "'oldest'"]),
        ("--trace nowhere.jsonl", ["nowhere.jsonl", "No such file"]),
    ],
)
@pytest.mark.parametrize("command", ["compare", "plan"])
def test_what_cannot_be_played_is_said_in_a_sentence(
    command: str, arguments: str, named: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, _, message = said(f"fleet {command} {arguments} --out {tmp_path}", capsys)
    assert status == 2
    assert message.startswith(f"kvlease fleet {command}: ")
    for part in named:
        assert part in message
    assert not any(tmp_path.iterdir())


def test_the_help_names_scenarios_policies_results_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in {
        "compare": (
            "calm",
            "crashes",
            "stalls",
            "overload",
            "flat-480",
            "report.html",
            "outcome.json",
            "consumer_seats",
        ),
        "plan": ("kv_lease_duration", "kv_lease_orphan_grace", "kv_lease_renew_interval", "plan.json", "hash_ids"),
    }.items():
        with pytest.raises(SystemExit):
            main(["fleet", command, "--help"])
        text = capsys.readouterr().out
        for word in (*words, "Mooncake", "exit status"):
            assert word in text


def test_alone_it_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = said("fleet", capsys)
    assert status == 0
    assert "compare" in text
    assert "plan" in text


# -- runs ----------------------------------------------------------------------------------------------------------


def test_policies_are_played_side_by_side_and_all_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chosen = f"{SMALL} --requests 100 --scenario calm --scenario crashes --policy stock --policy kvlease-10 --seed 3"
    status, text, _ = said(f"fleet compare {chosen} --out {tmp_path}", capsys)
    assert status == 0, text
    for words in (
        "calm: ",
        "crashes: ",
        "vLLM 30 s",
        "kvlease 10 s",
        "stranded",
        "400 requests",
        "a million would take",
    ):
        assert words in text
    found = json.loads((tmp_path / "outcome.json").read_text())
    assert [scenario["name"] for scenario in found["scenarios"]] == ["calm", "crashes"]
    outcomes = [each for scenario in found["scenarios"] for each in scenario["outcomes"]]
    assert [each["policy"] for each in outcomes] == ["vLLM 30 s", "kvlease 10 s"] * 2
    assert {each["requests"]["arrived"] for each in outcomes} == {100}
    assert found["fleet"]["producers"] == 2
    command = (
        "kvlease fleet compare --requests 100 --scenario calm --scenario crashes --policy stock --policy kvlease-10 "
        "--producers 2 --consumers 3 --seed 3"
    )
    assert found["command"] == command
    assert command in (tmp_path / "report.html").read_text()


def figures(path: Path) -> Any:
    """The scenarios of an outcome without the figures that the machine's speed decides."""
    found = json.loads((path / "outcome.json").read_text())
    for scenario in found["scenarios"]:
        for each in scenario["outcomes"]:
            del each["cost"]
    return found["scenarios"]


@pytest.mark.usefixtures("undrawn")
def test_the_command_in_the_results_plays_the_same_again_in_any_number_of_processes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    said(
        f"fleet compare {SMALL} --requests 200 --scenario stalls --policy flat-30 --policy kvlease --out {first}",
        capsys,
    )
    command = json.loads((first / "outcome.json").read_text())["command"].removeprefix("kvlease ")
    said(f"{command} --jobs 2 --out {again}", capsys)
    assert figures(first) == figures(again)
    said(f"{command} --jobs 1 --seed 2 --out {other}", capsys)
    assert figures(first) != figures(other)


@pytest.mark.usefixtures("undrawn")
def test_every_setting_comes_back_in_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    settings = "--set takeover=true --set patience_s=none --set slo_ttft_s=1.5 --set reuse=newest --rate 5.0"
    chosen = f"{SMALL} --requests 50 --scenario calm --scenario overload --policy kvlease {settings} --out {tmp_path}"
    status, text, _ = said(f"fleet compare {chosen}", capsys)
    assert status == 0, text
    found = json.loads((tmp_path / "outcome.json").read_text())
    fleet_ = found["fleet"]
    chosen_ = (fleet_["takeover"], fleet_["patience_s"], fleet_["slo_ttft_s"], fleet_["reuse"])
    assert chosen_ == (True, None, 1.5, "newest")
    assert settings in found["command"]
    assert [scenario["rate"] for scenario in found["scenarios"]] == [5.0, 5.0 * TOO_MUCH / USUAL_LOAD]


def write_trace(path: Path, count: int = 400, bad: int = 0) -> Path:
    lines = [
        f'{{"timestamp": {250 * number}, "input_length": {500 + number}, "output_length": 20, "hash_ids": [{number}]}}'
        for number in range(count)
    ]
    path.write_text("\n".join([*lines[:10], *["{}"] * bad, *lines[10:]]))
    return path


@pytest.mark.usefixtures("undrawn")
def test_a_trace_is_played_at_the_usual_load(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = write_trace(tmp_path / "trace.jsonl")
    chosen = f"{SMALL} --requests 600 --scenario calm --policy kvlease --trace {trace} --out {tmp_path}"
    status, text, _ = said(f"fleet compare {chosen}", capsys)
    assert status == 0, text
    assert "prefixes that prompts share are not simulated" in text
    found = json.loads((tmp_path / "outcome.json").read_text())
    assert found["mean_shape"]["rate"] == pytest.approx(4.0)
    (scenario,) = found["scenarios"]
    capacity = min(found["capacity_per_s"].values())
    assert scenario["rate"] == pytest.approx(USUAL_LOAD * capacity)
    (each,) = scenario["outcomes"]
    assert each["requests"]["arrived"] == 600, "repeated"
    assert 600 / each["window_s"] == pytest.approx(scenario["rate"], rel=0.02)


@pytest.mark.parametrize("command", ["compare --requests 400 --scenario calm --policy kvlease", "plan"])
def test_bad_lines_of_a_trace_are_named_before_anything_is_played(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trace = write_trace(tmp_path / "trace.jsonl", bad=2)
    status, _, message = said(f"fleet {command} {SMALL} --trace {trace} --out {tmp_path / 'out'}", capsys)
    assert status == 2
    assert f"{trace}, line 11" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_skipped_lines_are_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = write_trace(tmp_path / "trace.jsonl", bad=2)
    chosen = (
        f"{SMALL} --requests 400 --scenario calm --policy kvlease --trace {trace} --skip-bad-lines --out {tmp_path}"
    )
    status, text, _ = said(f"fleet compare {chosen}", capsys)
    assert status == 0, text
    assert "2 bad lines were left out" in text
    assert "line 11" in text


@pytest.mark.usefixtures("undrawn")
def test_requests_that_fit_into_no_engine_are_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = write_trace(tmp_path / "trace.jsonl")
    chosen = f"{SMALL} --requests 400 --scenario calm --policy kvlease --trace {trace} --out {tmp_path}"
    status, text, _ = said(f"fleet compare {chosen} --producer-blocks 50", capsys)
    assert status == 0, text
    assert "99 requests fit into no engine" in text, "prompts of 801 tokens and more"
    (each,) = json.loads((tmp_path / "outcome.json").read_text())["scenarios"][0]["outcomes"]
    assert each["requests"]["failed"] == 99


def test_a_plan_recommends_what_can_be_pasted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvlease.fleet.advice.advise.__defaults__", ((15.0, 30.0),))
    monkeypatch.setattr("kvlease.fleet.traffic.sampling.LOOKED_THROUGH", 20_000)
    chosen = f"--producers 2 --consumers 2 --jobs 1 --sample 100 --rate 1 --stall 2 --out {tmp_path}"
    status, text, _ = said(f"fleet plan {chosen}", capsys)
    assert status == 0, text
    for words in ("kv_lease_duration: the term", "the grace", "the interval", "The rule: ", "busiest", "stalls of 2 s"):
        assert words in text
    found = json.loads((tmp_path / "plan.json").read_text())
    assert json.dumps(found["recommended"]).replace(".0", "") in text.replace(".0", "")
    resolve(found["recommended"])
    assert [step["setting"] for step in found["steps"]] == ["term", "grace", "interval"]
    assert len(found["steps"][0]["tried"]) == 2
    assert found["fleet"]["lost_share"] == 0.001
    assert found["sample"]["mean_rate"] == pytest.approx(1.0, rel=0.1)
    assert found["command"] == "kvlease fleet plan --stall 2.0 --sample 100 --producers 2 --consumers 2 --rate 1.0"
    assert found["rule"] in (tmp_path / "plan.html").read_text()


# -- ends ----------------------------------------------------------------------------------------------------------


def instead(monkeypatch: pytest.MonkeyPatch, what: Any) -> None:
    monkeypatch.setattr(compare_module, "play", what)


@pytest.mark.usefixtures("undrawn")
def test_a_wrong_answer_of_kvlease_is_a_failure_and_one_of_stock_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(_: Any, policy: Any, *__: Any) -> Any:
        return with_(outcome(policy.name, policy.kind), requests={"wrong": 3})

    instead(monkeypatch, play)
    chosen = f"fleet compare {SMALL} --scenario calm --out {tmp_path}"
    status, text, _ = said(f"{chosen} --policy stock", capsys)
    assert (status, "broke" in text) == (0, False)
    status, text, _ = said(f"{chosen} --policy kvlease", capsys)
    assert status == 1
    assert "kvlease broke its promise: 3 wrong answers" in text


def test_interrupted_it_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(*_: Any) -> Any:
        raise KeyboardInterrupt

    instead(monkeypatch, play)
    status, text, _ = said(f"fleet compare {SMALL} --scenario calm --policy stock --out {tmp_path}", capsys)
    assert status == 130
    assert "interrupted" in text


@pytest.mark.usefixtures("undrawn")
def test_a_short_window_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(monkeypatch, lambda *_: outcome(window_s=20.0))
    assert (
        "20 simulated seconds only"
        in said(f"fleet compare {SMALL} --scenario calm --policy stock --out {tmp_path}", capsys)[1]
    )
    instead(monkeypatch, lambda *_: outcome(window_s=600.0))
    assert "only" not in said(f"fleet compare {SMALL} --scenario calm --policy stock --out {tmp_path}", capsys)[1]


@pytest.mark.parametrize("command", ["compare", "plan"])
def test_without_its_parts_it_says_what_is_missing(command: str) -> None:
    text = refused_bare(f"from kvlease.cli import main; sys.exit(main(['fleet', '{command}']))")
    assert "`pip install 'kvlease[fleet]'` installs it" in text
