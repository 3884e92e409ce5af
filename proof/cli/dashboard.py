"""`python -m proof dashboard`: the rows of the dashboard as pictures, from a Prometheus that runs or from a scene."""

import argparse
import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvlease.console.arguments import add_out, real
from kvlease.console.commands import BadArguments, Command
from kvlease.console.exits import Exit, described
from proof.cli.real_engines import PARTS

if TYPE_CHECKING:
    from pathlib import Path

    from proof.monitoring.client import PrometheusClient
    from proof.monitoring.draw import Mark
    from proof.monitoring.screen import Period

SCENES = ("crash", "stall", "drain")
_MINUTES = 30.0
_SCRAPE_S = 15.0
_DESCRIPTION = """\
Draws each row of monitoring/dashboard.json as DIR/<number>-<row>.png, from the same queries: those of
a Prometheus that runs, by its URL, which needs the rules of monitoring/rules.yml; or, with --play, of
one that is started here and looks at real engines while a decode engine is killed (crash) or stands
still (stall), or a prefill engine drains (drain)."""


def add_dashboard(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "dashboard",
        _draw,
        summary="the dashboard's rows as pictures",
        description=_DESCRIPTION,
        exits=described("they are drawn", None, "Prometheus or an engine does not answer"),
        examples=(
            "python -m proof dashboard http://localhost:9090 --minutes 60",
            "python -m proof dashboard --play crash",
        ),
        parts=("httpx", "matplotlib", "rich", "yaml", "grafana_foundation_sdk"),
        install="make monitoring",
        errors=Exit.NOT_DONE,
        check=_check,
    ).add_to(commands)
    parser.add_argument("url", nargs="?", metavar="URL", help="a Prometheus, such as http://localhost:9090")
    parser.add_argument("--play", choices=SCENES, metavar="SCENE", help=f"play this first: {', '.join(SCENES)}")
    parser.add_argument(
        "--minutes",
        type=real(0.1, 100_000, "minutes", _MINUTES),
        default=_MINUTES,
        help="how much of the past is shown (%(default)g)",
    )
    parser.add_argument(
        "--scrape-s",
        type=real(0.1, 600, "seconds", _SCRAPE_S),
        default=_SCRAPE_S,
        metavar="SECONDS",
        help="the interval at which Prometheus scrapes: windows of rates follow from it (%(default)g)",
    )
    add_out(parser, "out/monitoring")


def _check(chosen: argparse.Namespace) -> None:
    if (chosen.url is None) == (chosen.play is None):
        raise BadArguments("give either the URL of a Prometheus, such as http://localhost:9090, or --play SCENE")


def _draw(chosen: argparse.Namespace) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    from proof.monitoring.client import PrometheusClient
    from proof.monitoring.screen import Period

    if chosen.play is not None:
        return _play(chosen)
    client = PrometheusClient(chosen.url)
    now = time.time()
    try:
        _write(client, Period(now - 60 * chosen.minutes, now, chosen.scrape_s), chosen.out, ())
    finally:
        client.close()
    return Exit.OK


def _play(chosen: argparse.Namespace) -> Exit:
    from importlib.util import find_spec

    from kvlease.console.progress import Story, open_console
    from kvlease.up.model import build_model
    from proof.monitoring.play import SCENES as PLAYED
    from proof.monitoring.play import played

    missing = [part for part in PARTS if find_spec(part) is None]
    if missing:
        raise BadArguments(f"--play needs {', '.join(missing)}, not installed here: `make demo` installs it")

    async def run() -> None:
        story = Story(open_console())
        folder = chosen.out / chosen.play
        async with played(PLAYED[chosen.play], build_model("llama"), folder, story) as seen:
            _write(seen.client, seen.period, folder, seen.marks)

    asyncio.run(run())
    return Exit.OK


def _write(client: "PrometheusClient", period: "Period", folder: "Path", marks: "Sequence[Mark]") -> None:
    from proof.monitoring.draw import draw_rows
    from proof.monitoring.screen import answered, panels

    shown = [answered(panel, client, period) for panel in panels(period)]
    for path in draw_rows(shown, period, folder, marks):
        print(path)
