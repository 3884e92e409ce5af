"""`kvlease up`: what its arguments become, and what it prints."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from kvlease.cli import main
from kvlease.cli.up import add_up, wanted_of
from kvlease.console.commands import BadArguments
from kvlease.up import checks, children, model
from tests.cli.bare import refused_bare


def chosen(*arguments: str) -> Namespace:
    parser = ArgumentParser()
    add_up(parser.add_subparsers())
    return parser.parse_args(["up", *arguments])


def test_arguments_after_the_dashes_are_vllms_for_all_engines() -> None:
    wanted = wanted_of(
        chosen("--decode", "2", "--decode-args", "--max-num-seqs 4", "--", "--max-model-len", "8192", "-tp=2")
    )
    assert (wanted.prefill, wanted.decode) == (1, 2)
    assert wanted.arguments("prefill") == ("--max-model-len", "8192", "-tp=2")
    assert wanted.arguments("decode") == ("--max-model-len", "8192", "-tp=2", "--max-num-seqs", "4")


def test_a_size_given_before_the_dashes_is_vllms_as_well() -> None:
    assert wanted_of(chosen("--tensor-parallel-size", "2")).engine_arguments == ("--tensor-parallel-size", "2")


@pytest.mark.parametrize(("text", "devices"), [("0, 2", ("0", "2")), ("none", ()), ("GPU-8a", ("GPU-8a",))])
def test_devices_are_a_list_or_none(text: str, devices: tuple[str, ...]) -> None:
    assert wanted_of(chosen("--devices", text)).devices == devices


def test_a_models_directory_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert wanted_of(chosen("--model", "mine")).model == str(tmp_path / "mine")
    assert wanted_of(chosen("--model", "owner/model")).model == "owner/model"
    assert wanted_of(chosen()).model is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--extra-config", "{"), "--extra-config is no JSON"),
        (("--extra-config", "[1]"), "must be an object"),
        (("--prefill-args", "a 'b"), "a shell could not read"),
    ],
)
def test_what_cannot_be_read_is_refused(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadArguments, match=said):
        wanted_of(chosen(*arguments))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--connector", "none"), "'none' is no connector: choose from stock, kvlease"),
        (("--to", "units"), "--to goes with --print"),
        (("--image", "a"), "--image goes with --print compose"),
        (("--model", "./nowhere"), "is no directory here"),
        (("--", "--port", "1"), "--port is not to be given to engines"),
        (("--print", "plain", "--devices", "0", "--model", "a/b"), "need 2 devices"),
        (("--print", "plain", "--to", "/dev/null/x"), "--to /dev/null/x cannot be written: Not a directory"),
        (("--max-model-len", "8192"), "kvlease up: error: unrecognized arguments: --max-model-len: vLLM's arguments"),
        (("owner/model",), "'owner/model' is no argument: a model is given by --model"),
        (("--host", ""), "--host is empty"),
        (("--router-args", "--retry-ratio 3"), "argument --retry-ratio: '3' is not a number from 0 to 1"),
        (("--devices", "0,0"), "it must be different GPUs"),
        (("--devices", ""), "it must be different GPUs"),
    ],
)
def test_what_is_refused_is_said(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["up", *arguments])
    except SystemExit as end:
        status = int(str(end.code))
    assert status == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []
    monkeypatch.setattr(checks, "check_machine", lambda *_: None)
    monkeypatch.setattr(model, "build_model", made.append)
    monkeypatch.setattr(children, "make_scratch", lambda: made.append("scratch"))
    assert main(["up", "--devices", "none", "--logs", "/dev/null/logs"]) == 2
    assert "--logs /dev/null/logs cannot be made" in capsys.readouterr().err
    assert made == []


def test_units_are_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    units = ["kvlease.target", *(f"kvlease-{name}.service" for name in ("prefill-0", "decode-0", "router"))]
    assert main(["up", "--print", "systemd", "--devices", "none"]) == 0
    printed = capsys.readouterr().out
    assert [line[2:] for line in printed.splitlines() if line.startswith("# kvlease")] == units
    assert main(["up", "--print", "systemd", "--devices", "none", "--to", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(units)
    assert all((tmp_path / name).read_text() in printed for name in units)


def test_without_its_packages_it_says_how_to_install_them() -> None:
    """Printing needs none of them."""
    script = """
from kvlease.cli import main
assert main(["up", "--print", "plain", "--devices", "none"]) == 0
print("---")
sys.exit(main(["up"]))
"""
    assert "`pip install 'kvlease[up]'` installs it" in refused_bare(script).partition("---")[2]
