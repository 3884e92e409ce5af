"""The view, driven by keys: what the terminal shows of a small fleet."""

import pytest
from textual.pilot import Pilot

from tests.top.canned import CannedEngine, CannedServer, lease
from tests.top.screens import Bench, drawn, shown

pytestmark = pytest.mark.long

AGAIN = "look at it, and run `python -m tests.top.screens` if it is meant"
Terminal = Pilot[None]


def lines(bench: Bench, *containing: str) -> list[str]:
    """The lines of the terminal that contain one of these texts."""
    return [line for line in bench.text().splitlines() if any(text in line for text in containing)]


def names(bench: Bench) -> list[str]:
    """The engines in the order in which they are shown."""
    found = lines(bench, "│ decode-", "│ prefill-")
    return [line.split()[1].removesuffix(":8200").removesuffix(":8000") for line in found]


def test_the_view_is_as_it_was_and_as_the_documentation_shows_it() -> None:
    for path, content in drawn().items():
        assert content == path.read_text(), AGAIN


def test_engines_are_sorted_filtered_and_paused() -> None:
    async def act(bench: Bench, pilot: Terminal) -> None:
        assert names(bench) == ["decode-0", "decode-1", "prefill-0", "prefill-1"]
        await pilot.press("greater_than_sign", "greater_than_sign", "greater_than_sign")
        assert names(bench) == ["prefill-0", "prefill-1", "decode-0", "decode-1"]
        await pilot.press("r")
        assert names(bench) == ["decode-0", "decode-1", "prefill-1", "prefill-0"]
        await pilot.press("slash", *"l-1", "enter")
        assert names(bench) == ["prefill-1"]
        assert lines(bench, "only 'l-1'")
        # Letters go into the field, and mean something again after it.
        await pilot.press("p")
        before = lines(bench, "PAUSED", "leases,")
        assert "PAUSED" in before[0]
        await bench.until(pilot, 26.0)
        assert lines(bench, "PAUSED", "leases,") == before
        await pilot.press("escape", "p")
        (holding,) = lines(bench, "PAUSED", "leases,")
        assert holding != before[1]
        assert len(names(bench)) == 4

    shown((80, 24), act, 20.0)


def test_an_engine_dies_is_told_of_and_returns() -> None:
    async def act(bench: Bench, pilot: Terminal) -> None:
        await bench.until(pilot, 66.0)
        (line,) = lines(bench, "│ decode-1")
        assert "down" in line
        assert "···" in line
        assert lines(bench, "decode-1:8200: connection refused since 12:01:00")
        assert lines(bench, "1 no answer")
        bench.now = 76.0
        await bench.until(pilot, 78.0)
        (line,) = lines(bench, "│ decode-1")
        assert "up" in line
        assert not lines(bench, "no answer", "refused")
        assert lines(bench, "draining")

    shown((80, 24), act, 58.0)


def test_it_fits_when_the_terminal_changes_and_sessions_are_a_key_away() -> None:
    async def act(bench: Bench, pilot: Terminal) -> None:
        assert lines(bench, "2 leases")
        assert not lines(bench, " lends ")
        await pilot.press("3")
        assert lines(bench, " lends ")
        assert lines(bench, "3 sessions: 8  │  2 leases")
        await pilot.resize_terminal(200, 50)
        await pilot.pause()
        assert lines(bench, "2 leases:")[0].count("╭") == 2
        assert lines(bench, "grants/s")
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert not lines(bench, "grants/s")
        assert max(map(len, bench.text().splitlines())) <= 80

    shown((80, 24), act, 20.0)


def test_help_and_all_about_one_line_open_and_close() -> None:
    async def act(bench: Bench, pilot: Terminal) -> None:
        # The first table has the focus from the start, although it was empty then.
        await pilot.press("enter")
        await pilot.pause()
        assert lines(bench, "fence checks")[0].split("checks")[1].split() == [
            "intact",
            "240,",
            "revoked",
            "0",
            "│",
            "│",
        ]
        await pilot.press("escape", "question_mark")
        assert lines(bench, "pause: the view stands still")
        await pilot.press("escape", "2", "enter")
        await pilot.pause()
        assert lines(bench, "held by")
        await pilot.press("escape")
        assert lines(bench, "2 leases")

    shown((80, 40), act, 20.0)


def test_a_line_that_has_gone_when_its_key_is_heard_opens_nothing() -> None:
    async def act(bench: Bench, pilot: Terminal) -> None:
        await pilot.press("2")
        panel = bench.top.leases
        panel.table.action_cursor_down()
        panel.table.action_select_cursor()
        panel.take((), "", "no leases")
        await pilot.pause()
        assert bench.top.screen_stack == [bench.top.screen]
        assert lines(bench, "no leases")

    shown((80, 40), act, 20.0)


def test_without_routes_it_says_how_to_get_leases_and_sessions() -> None:
    async def act(bench: Bench, _: Terminal) -> None:
        assert lines(bench, "VLLM_PLUGINS=kvlease")
        assert lines(bench, "│ p:8000")

    engine = CannedEngine("p", leases=[lease(1, 1.0, 160)])
    shown((80, 24), act, servers=[CannedServer("http://p:8000", [engine], routes=False)])
