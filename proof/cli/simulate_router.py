"""`python -m proof simulate router`: the router's small world, struck at every point."""

import argparse
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Any

from kvlease.console.arguments import add_jobs, one_of, whole
from kvlease.console.commands import Command
from kvlease.console.exits import Exit, described
from kvlease.console.origin import commit
from proof import program
from proof.planted import PLANTED

if TYPE_CHECKING:
    from proof.simulate.points import Point

PARTS = ("rich",)
_ROUTER = """\
One P, two Ds and three requests through kvlease's router. Something goes wrong at every point of the
run, between any two of its events: an engine dies, vanishes, stops, pauses, restarts, drains, refuses,
fails, rejects, or a client leaves. Each run is judged to its end: who has no token is answered, right and
computed once; nothing stays held. What became of the requests is shown as a table."""
_EXITS = described("every promise kept", "one was broken", "a part is not installed")


def add_router(actions: Any) -> None:
    """Adds the command to those of `simulate`."""
    command = Command(
        "router", _router, "an engine dies at every point of a router's run", _ROUTER, _EXITS, parts=PARTS
    )
    parser = command.add_to(actions)
    parser.add_argument(
        "--every", type=whole(1, 10_000, 10), default=1, metavar="N", help="play one of N points (1: all)"
    )
    parser.add_argument(
        "--point", type=_point, metavar="POINT", help="play this point alone, and tell every event in words"
    )
    parser.add_argument("--planted", type=one_of("planted bug", PLANTED), metavar="NAME", help="with this bug planted")
    add_jobs(parser)


def _point(text: str) -> "Point":
    from proof.simulate.points import Point

    try:
        return Point.read(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no point such as d0,dies,120 or r0,leaves,60,breaks: {error}") from None


def _router(chosen: argparse.Namespace) -> Exit:
    from time import monotonic

    from kvlease.console.progress import open_console, progress, show
    from proof.simulate.fuzz import plant
    from proof.simulate.points import PointOutcome, PointSweep, play_point, points, sweep
    from proof.simulate.show import points_table

    console = open_console()
    planted = f" --planted {chosen.planted}" if chosen.planted else ""

    def explain(outcome: PointOutcome) -> None:
        console.print(f"{outcome.point}: {outcome.violation}")
        for event in outcome.last:
            console.print(f"  {event}")
        console.print(f"to see it again:\n  {program()} simulate router --point {outcome.point.written}{planted}")

    if chosen.point is not None:
        with plant(chosen.planted):
            outcome = play_point(chosen.point, console.print)
        console.print(str(outcome.violation or "every promise was kept"))
        return Exit.FOUND if outcome.violation else Exit.OK
    began = monotonic()
    console.print(f"commit {commit()}")
    with progress(console, "the first points") as tell:

        def watch(found: PointSweep) -> None:
            tell(f"{found.runs:,} points, {len(found.failures)} failures")

        found = sweep(list(points(chosen.every)), chosen.jobs, chosen.planted, watch)
    show(console, points_table(found))
    console.print(f"{found.runs:,} points in {monotonic() - began:.0f} s, {len(found.failures)} failures")
    if not found.failures:
        return Exit.OK
    explain(found.failures[0])
    return Exit.FOUND
