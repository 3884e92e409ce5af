"""`python -m proof simulate` refuses what it cannot do, and the command that it prints replays the failure."""

import re
import shlex
import signal
import subprocess
import sys
import time

import psutil
import pytest

from kvlease.console import commands
from kvlease.console.origin import commit
from proof import program
from proof.cli.main import main
from proof.planted import PLANTED
from proof.simulate import report
from proof.simulate.plan import draw_plan
from tests.cli.bare import refused_bare
from tests.proof.pasted import pasted

pytestmark = pytest.mark.long

EASY = "token_reused"
"""A planted bug that nearly every run finds."""


@pytest.fixture(autouse=True)
def _leave_signals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_end_like_ctrl_c", lambda: None)


def said(arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(shlex.split(arguments))
    return status, capsys.readouterr().out


def test_alone_it_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said("simulate", capsys)
    assert status == 0
    for word in ("fuzz", "replay", "planted", "exit status"):
        assert word in text


def test_a_fault_that_the_plan_does_not_have_is_a_bad_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "replay", "0", "--faults", "9999"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("python -m proof simulate replay: ")
    assert "no fault 9999" in message


def test_runs_that_keep_every_promise_end_in_sums(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said("simulate fuzz --runs 3 --seed 0 --jobs 1", capsys)
    assert status == 0, text
    assert "seeds from 0 on, commit " in text
    for word in ("3 runs", "events", "simulated hours", "0 failures", "answers by how they came"):
        assert word in text


def test_processes_share_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said("simulate fuzz --runs 2 --seed 0 --jobs 2", capsys)
    assert status == 0, text
    assert "2 runs" in text
    alone = said("simulate fuzz --runs 2 --seed 0 --jobs 1", capsys)[1]
    assert _events(alone) == _events(text)


def _events(text: str) -> str:
    # Lines of progress come before the last line, which has the sum.
    found: list[str] = re.findall(r"([\d,]+) events", text)
    return found[-1]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        # A short command, as the one that asks for the commit, may have ended since it was listed.
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_it_no_process_is_left(how: signal.Signals) -> None:
    command = [sys.executable, "-m", "proof", "simulate", "fuzz", "--minutes", "5", "--jobs", "2"]
    fuzz = psutil.Popen(command, stdout=subprocess.PIPE, text=True)
    while len(workers := [child for child in fuzz.children() if _is_worker(child)]) < 2:
        time.sleep(0.05)
    fuzz.send_signal(how)
    said = fuzz.communicate(timeout=60)[0]
    if how == signal.SIGINT:
        assert fuzz.returncode == 130
        assert "interrupted" in said
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


def test_a_failure_says_all_that_is_needed_and_its_command_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said(f"simulate fuzz --runs 20 --seed 0 --jobs 1 --planted {EASY}", capsys)
    assert status == 1, text
    assert f"commit {commit()}, with {EASY} planted" in text
    for word in ("is broken: ", "the last events:", "cut down from", "requests:"):
        assert word in text
    found = re.search(r"^  (\S+ -m proof simulate replay \d+ --faults .*)$", text, re.MULTILINE)
    assert found is not None, text
    broken = re.search(r"^(\w+) is broken: .*$", text, re.MULTILINE)
    assert broken is not None
    status, again = pasted(f"{found[1]} --quiet")
    assert status == 1
    assert broken[0] in again, "the same rule, the same fact, the same digest"


def test_a_replay_tells_what_happens(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said("simulate replay 0", capsys)
    assert status == 0, text
    plan = draw_plan(0)
    for fault in plan.faults:
        assert str(fault) in text
    assert text.count("grants") >= 1
    assert "every promise was kept" in text


def test_planted_bugs_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said(f"simulate planted {EASY} --ranges 2 --jobs 1", capsys)
    assert status == 0, text
    assert "1 of 1 found" in text
    status, text = said("simulate planted no_fence --runs 1 --ranges 1 --jobs 1 --list", capsys)
    assert status == 0
    assert PLANTED["no_fence"].what in text


def test_a_bug_that_is_not_found_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    late = "failed_fence_counts_as_intact"
    status, text = said(f"simulate planted {late} --runs 1 --ranges 1 --jobs 1", capsys)
    assert status == 1, text
    assert "0 of 1 found" in text


def test_without_rich_it_says_what_is_missing() -> None:
    text = refused_bare("from proof.cli.main import main; sys.exit(main(['simulate', 'fuzz']))")
    assert "pip install rich" in text


def test_a_choice_of_nothing_can_be_written() -> None:
    assert report.replay_command(7, (), (2, 0)) == f"{program()} simulate replay 7 --faults none --requests 0,2"
    assert report.replay_command(7, planted="no_fence") == f"{program()} simulate replay 7 --planted no_fence"
