"""Commands end with the right status, whatever ends them."""

import argparse
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from kvlease.console.commands import BadArguments, Command, run_program
from kvlease.console.exits import Exit, described
from kvlease.errors import KvLeaseError


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ended(do: Any = lambda _: Exit.OK, **more: Any) -> Exit:
    command = Command("try", do, "tries", "Tries.", **more)
    return Exit(run_program("kvlease", "", [command.add_to], ["try"]))


def fails(error: BaseException) -> Any:
    def do(_: argparse.Namespace) -> Exit:
        raise error

    return do


def test_a_command_ends_as_it_says() -> None:
    assert ended(lambda _: Exit.FOUND) == 1


def test_a_command_that_has_others_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(None) == 0
    assert "Tries." in capsys.readouterr().out


def test_ctrl_c_ends_in_a_sentence_that_says_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(fails(KeyboardInterrupt())) == 130
    assert "interrupted: nothing is left running" in capsys.readouterr().out
    assert ended(lambda _: signal.raise_signal(signal.SIGTERM), left="the engines have been ended") == 130
    assert "interrupted: the engines have been ended" in capsys.readouterr().out


def test_arguments_that_do_not_go_together_are_told_before_anything_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    refuse = fails(BadArguments("--a 1 is too few"))
    assert ended(fails(AssertionError()), check=refuse, parts=("no_such_package",)) == 2
    assert ended(refuse) == 2
    captured = capsys.readouterr()
    assert captured.err == 2 * "kvlease try: --a 1 is too few\n"
    assert captured.out == ""


def test_unknown_arguments_are_refused_by_the_command_that_does_not_know_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = Command("try", fails(AssertionError()), "tries", "Tries.", stray="leave it to others")
    with pytest.raises(SystemExit, match="2"):
        run_program("kvlease", "", [command.add_to], ["try", "--hard"])
    assert "kvlease try: error: unrecognized arguments: --hard: leave it to others\n" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run_program("kvlease", "", [command.add_to], ["--hard"])
    assert "kvlease: error: unrecognized arguments: --hard\n" in capsys.readouterr().err


def test_an_error_ends_it_as_the_command_wants(capsys: pytest.CaptureFixture[str]) -> None:
    error = KvLeaseError("engine p died")
    assert ended(fails(error), errors=Exit.NOT_DONE) == 3
    assert "kvlease try could not go on: engine p died" in capsys.readouterr().out
    assert ended(fails(error), errors=Exit.BAD_ARGUMENTS) == 2
    assert capsys.readouterr().err == "kvlease try: engine p died\n"
    with pytest.raises(KvLeaseError, match="engine p died"):
        ended(fails(error))


def test_missing_parts_are_named_with_the_command_that_installs_them(capsys: pytest.CaptureFixture[str]) -> None:
    parts = ("sys", "no_such_package", "nor_this")
    assert ended(fails(AssertionError()), parts=parts) == 3
    said = "kvlease try needs no_such_package, nor_this, not installed here: "
    assert capsys.readouterr().out == f"{said}`pip install no_such_package nor_this` installs it\n"
    assert ended(fails(AssertionError()), parts=parts, install="make try") == 3
    assert capsys.readouterr().out == f"{said}`make try` installs it\n"


def test_the_help_says_what_every_exit_status_means(capsys: pytest.CaptureFixture[str]) -> None:
    exits = described("kept", "broken", "not run")
    command = Command("try", lambda _: Exit.OK, "tries", "Tries.", exits, ["try --hard"])
    with pytest.raises(SystemExit):
        run_program("kvlease", "", [command.add_to], ["try", "--help"])
    page = capsys.readouterr().out
    for line in ("0    kept", "1    broken", "2    bad arguments", "3    not run", "130  interrupted", "try --hard\n"):
        assert f"\n  {line}" in page
    assert "\n  1 " not in described("kept", None, "not run")
