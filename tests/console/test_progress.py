"""The progress that a user sees while a command runs, with and without a terminal."""

from io import StringIO

import pytest
from rich.console import Console

from kvlease.console.progress import Story, open_console, progress


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("kvlease.console.progress.time", self)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def plain() -> tuple[Console, StringIO]:
    file = StringIO()
    return Console(file=file, markup=False, highlight=False, soft_wrap=True, width=20), file


def test_without_a_terminal_a_line_is_written_now_and_then(clock: Clock) -> None:
    console, file = plain()
    with progress(console, "nothing yet") as tell:
        for number in range(25):
            tell(f"[{number}] done")
            clock.now += 1.0
    assert file.getvalue() == "[10] done\n[20] done\n"


def test_the_share_is_shown_and_the_end_always(clock: Clock) -> None:
    console, file = plain()
    with progress(console, "nothing yet", bar=True) as tell:
        tell("calm", 0.1)
        clock.now += 10.0
        tell("calm", 0.425)
        tell("crashes", 1.0)
    assert file.getvalue() == " 42 %  calm\n100 %  crashes\n"


def test_every_line_is_written_where_they_are_rare() -> None:
    console, file = plain()
    with progress(console, "nothing yet", plain_every_s=0.0) as tell:
        tell("one")
        tell("two")
    assert file.getvalue() == "one\ntwo\n"


@pytest.mark.parametrize("bar", [True, False])
def test_on_a_terminal_it_is_shown_in_place_and_gone_at_the_end(bar: bool, clock: Clock) -> None:
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with progress(console, "nothing yet", bar=bar) as tell:
        clock.now += 1.0
        tell("half [done]", 0.5)
    shown = file.getvalue()
    assert "nothing yet" in shown
    assert "half [done]" in shown
    assert ("50%" in shown) == bar
    assert shown.rpartition("half [done]")[2].endswith("\x1b[2K"), "erased"


def test_a_story_has_the_seconds_since_it_began(clock: Clock) -> None:
    console, file = plain()
    story = Story(console)
    clock.now += 12.34
    story.say("P has taken [bold]all[/bold] blocks back, whatever the width")
    with story.busy("engines start"):
        pass
    assert file.getvalue().splitlines() == [
        "  12.3 s  P has taken all blocks back, whatever the width",
        "  12.3 s  engines start ...",
    ]


def test_what_is_printed_is_no_markup_and_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    text = "leases of [1, 2] [red]blocks[/red] " + 60 * "and so on "
    open_console().print(text)
    assert capsys.readouterr().out == text + "\n"
