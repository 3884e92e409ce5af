"""The view on a terminal that is none, as text, and the pictures that tests compare with.

`python -m tests.top.screens` writes them anew: a small terminal, and the picture in the documentation.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

from textual.pilot import Pilot

from kvlease.admin.client import AdminClient, open_http
from kvlease.top.app import Top
from kvlease.top.watching import Watched
from tests.top.canned import CannedServer, transport
from tests.top.stories import fleet, play

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).parent / "small.txt"
PICTURE = ROOT / "docs" / "operate" / "top.svg"
STEP_S = 2.0
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).replace(tzinfo=None).timestamp()
"""The time of day at which the story begins, wherever it is told."""


class StillTop(Top):
    """The view that asks nobody by itself."""

    def begin(self) -> None:
        """The bench asks."""


class Bench:
    """The view of a fleet that is none, whose time goes by when a test says so."""

    def __init__(self, servers: list[CannedServer] | None = None) -> None:
        self.servers = servers or fleet()
        self.now = 0.0
        self._told = servers is None

    def wall_clock(self) -> float:
        return NOON + self.now

    async def show(self, size: tuple[int, int], act: "Act", from_s: float = 0.0) -> None:
        """Runs the view on a terminal of that size. `from_s`: the time in the story at which it begins."""
        self.now = from_s
        self._play()
        async with open_http(transport=transport(self.servers)) as http:
            self.watched = [
                Watched(AdminClient(server.url, http), lambda: self.now, self.wall_clock) for server in self.servers
            ]
            self.top = StillTop(self.watched, STEP_S, lambda: self.now, self.wall_clock)
            async with self.top.run_test(size=size) as pilot:
                await self.asked(pilot)
                await act(self, pilot)

    async def asked(self, pilot: "Pilot[None]") -> None:
        """Asks all engines, and waits until they are shown."""
        await asyncio.gather(*(one.poll() for one in self.watched))
        self.top.look()
        await pilot.pause()

    async def until(self, pilot: "Pilot[None]", now: float) -> None:
        """Lets time go by, with a look every two seconds."""
        while self.now < now:
            self.now += STEP_S
            self._play()
            await asyncio.gather(*(one.poll() for one in self.watched))
            self.top.look()
        await pilot.pause()

    def text(self) -> str:
        """Returns what the terminal shows."""
        return text_of(self.top.export_screenshot())

    def _play(self) -> None:
        if self._told:
            play(self.servers, self.now)


Act = Callable[[Bench, "Pilot[None]"], Awaitable[None]]


def shown(size: tuple[int, int], act: Act, from_s: float = 0.0, servers: list[CannedServer] | None = None) -> None:
    """Runs the view, and what a test does with it."""
    asyncio.run(Bench(servers).show(size, act, from_s))


def text_of(svg: str) -> str:
    """Returns the text of a picture that Textual has drawn, line by line."""
    lines: dict[float, dict[int, str]] = {}
    for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        if "clip-path" in element.attrib:
            text = unescape(element.text or "").replace("\xa0", " ")
            lines.setdefault(float(element.attrib["y"]), {})[round(float(element.attrib["x"]) / 12.2)] = text
    return "\n".join(_line(lines[y]) for y in sorted(lines)) + "\n"


def _line(parts: dict[int, str]) -> str:
    line = ""
    for column in sorted(parts):
        line = line.ljust(column) + parts[column]
    return line.rstrip()


# -- the stored ones -----------------------------------------------------------------------------------------------


def drawn() -> dict[Path, str]:
    """Returns what is to be stored in which file: a decode engine has hung, and then gone."""
    results: dict[Path, str] = {}

    async def act(bench: Bench, pilot: "Pilot[None]") -> None:
        await bench.until(pilot, 66.0)
        results[PICTURE] = _for_a_page(bench.top.export_screenshot(title="kvlease top"))
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        results[SMALL] = bench.text()

    shown((130, 34), act, 40.0)
    return results


def _for_a_page(svg: str) -> str:
    """Returns a picture that asks no other server for a font, and that is the same each time."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "monospace")
    # Some programs that draw SVG drop spaces at the beginning of a text.
    svg = svg.replace("<text ", '<text xml:space="preserve" ')
    # The names in it are of this drawing alone.
    return re.sub(r"terminal-\d+", "terminal-top", svg)


def main() -> None:
    """Writes them."""
    for path, content in drawn().items():
        path.write_text(content)


if __name__ == "__main__":
    main()
