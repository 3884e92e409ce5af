"""`kvlease router`: its arguments, and what is refused before anything is started."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prometheus_client
import pytest

from kvlease.cli import main
from kvlease.console import commands
from kvlease.router import serving
from kvlease.router.settings import ENGINE_KEY_VARIABLE, KEYS_VARIABLE, NUMBERS, RouterSettings

ENGINES = ("--prefill", "p0:8000", "--decode", "d0:8000")
KEY = "0123456789abcdef"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[RouterSettings]:
    """The settings that a router was started with, without starting one."""
    found: list[RouterSettings] = []

    def serve(settings: RouterSettings, listening: Callable[[str], None]) -> int:
        found.append(settings)
        listening("http://127.0.0.1:8000")
        return 0

    monkeypatch.setattr(serving, "serve", serve)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    # The command changes it for its whole process.
    monkeypatch.setattr(prometheus_client, "disable_created_metrics", lambda: None)
    return found


def test_what_is_not_chosen_is_as_the_settings_have_it(started: list[RouterSettings], capsys: Any) -> None:
    assert main(["router", *ENGINES]) == 0
    assert started == [RouterSettings(prefill=("http://p0:8000",), decode=("http://d0:8000",))]
    assert capsys.readouterr().out == "kvlease router listens on http://127.0.0.1:8000\n"


def test_each_option_sets_its_setting(started: list[RouterSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, KEY)
    monkeypatch.setenv(ENGINE_KEY_VARIABLE, "secret")
    given = {number.name: int(number.high) if number.whole else number.high for number in NUMBERS}
    flags = [word for number in NUMBERS for word in (number.flag, str(given[number.name]))]
    arguments = [
        *ENGINES,
        "--decode",
        "d1:8000",
        "d0:8000",
        *flags,
        "--engines",
        "e.yaml",
        "--decode-dns",
        "d:1",
        "e:2",
    ]
    assert main(["router", *arguments, "--continue-streams", "--no-whole-prompt-on-decoder", "--host", "::"]) == 0
    assert started == [
        RouterSettings(
            prefill=("http://p0:8000",),
            decode=("http://d0:8000", "http://d1:8000"),
            engines_file=Path("e.yaml"),
            decode_dns=("d:1", "e:2"),
            host="::",
            continue_streams=True,
            whole_prompt_on_decoder=False,
            api_keys=frozenset({KEY}),
            engine_key="secret",
            **given,  # type: ignore[arg-type]
        )
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "kvlease router: there is no decode engine"),
        (("--decode", "d0:8000"), "kvlease router: there is no prefill engine"),
        ((*ENGINES, "--prefill-dns", "nowhere"), "--prefill-dns is 'nowhere': it must be a name and a port"),
        ((*ENGINES, "--decode", "p0:8000"), "http://p0:8000 is named by --prefill and by --decode"),
    ],
)
def test_what_does_not_go_together_is_a_bad_argument(
    arguments: tuple[str, ...], says: str, started: list[RouterSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["router", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert started == []


@pytest.mark.parametrize("arguments", [("--port", "x"), ("--retry-ratio", "1.5"), ("--decode", "ftp://d0")])
def test_a_value_that_is_none_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["router", *ENGINES, *arguments])
    assert ended.value.code == 2
    assert f"argument {arguments[0]}: {arguments[1]!r} is no" in capsys.readouterr().err


def test_the_help_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["router", "--help"])
    text = capsys.readouterr().out
    assert [number.flag for number in NUMBERS if f"\n  {number.flag} " not in text] == []
    assert KEYS_VARIABLE in text


def test_a_file_of_engines_that_cannot_be_used_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "engines.yaml"
    bad.write_text("prefill: []\n")
    assert main(["router", "--engines", str(bad), "--port", "0"]) == 3
    assert f"kvlease router could not go on: {bad} is no list of engines" in capsys.readouterr().out


def test_without_its_packages_it_says_what_installs_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "find_spec", lambda name: None if name in ("aiohttp", "yaml") else name)
    assert main(["router", *ENGINES]) == 3
    assert capsys.readouterr().out == (
        "kvlease router needs aiohttp, yaml, not installed here: `pip install 'kvlease[router]'` installs it\n"
    )
