"""`python -m proof explore`: its arguments, and what frames the exploration."""

import argparse
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kvlease.console.arguments import add_out, one_of, real, several, whole
from kvlease.console.commands import BadArguments, Command
from kvlease.console.exits import Exit, described
from kvlease.console.files import write
from kvlease.logs import silenced
from proof.explore.actions import FAULTS
from proof.explore.liveness import LivenessChecks
from proof.explore.report import as_json, describe_progress, summary, totals
from proof.explore.scale import Bounds
from proof.explore.search import Found, Limits, Search
from proof.explore.words import describe
from proof.explore.world import ExploredWorld
from proof.explore.worlds import SETS, WORLDS, Chosen
from proof.planted import PLANTED
from proof.promises.safety import Violation

if TYPE_CHECKING:
    from rich.console import Console

BOUNDS = {"ticks": 60, "faults": 8, "blocks": 64, "slots": 8, "workers": 4, "consumers": 3}
"""The bounds of a world that can be set, and the most that each can be set to."""
MOST_MINUTES = 7 * 24 * 60.0
START = "start"
"""The way to write a list of no actions."""

_DESCRIPTION = """\
Explores small worlds of one producer and its consumers completely: every order in which messages
arrive, workers and engines go on, and faults happen, within stated bounds. All that decides is
kvlease's own code. Checks S1 to S5, R12, R20 and L2 after every action; and plays on from the states
without faults, to check L1 to L3, R20 and R25. Ends with the numbers of states and transitions, or with the
shortest way to a broken promise."""


def add_explore(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "explore",
        _explore,
        summary="small worlds explored completely: every order of everything that can happen",
        description=_DESCRIPTION,
        exits=described(
            "every promise kept and every world explored completely",
            "a promise was broken",
            "stopped before the end, or a part is not installed",
        ),
        examples=(
            "python -m proof explore",
            "python -m proof explore expiry --faults 2 --minutes 30",
            "python -m proof explore reuse --planted slot_reused_early",
        ),
        parts=("rich",),
    ).add_to(commands)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="WORLD",
        type=one_of("world", (*WORLDS, *SETS)),
        help=f"a world ({', '.join(WORLDS)}) or a set of them ({', '.join(SETS)}); full unless given",
    )
    for name, most in BOUNDS.items():
        parser.add_argument(
            f"--{name}", type=whole(0, most), metavar="N", help=f"{name} of each of the worlds, instead"
        )
    parser.add_argument(
        "--sizes", type=several(whole(0, 64), "2,1"), metavar="N,N", help="blocks of each lease, instead"
    )
    parser.add_argument(
        "--kinds",
        type=several(one_of("fault", FAULTS), ",".join(list(FAULTS)[:2])),
        metavar="NAME,NAME",
        help=f"only these faults ({', '.join(FAULTS)})",
    )
    parser.add_argument("--fine", action="store_true", help="every block, word and worker an action of its own")
    parser.add_argument(
        "--liveness-every",
        type=whole(0, 1 << 40),
        metavar="N",
        help="play on from one of so many states (0: from none)",
    )
    parser.add_argument(
        "--minutes",
        type=real(0.0, MOST_MINUTES, "minutes", 30),
        metavar="M",
        help="stop a world after so much processor time",
    )
    parser.add_argument(
        "--planted", type=one_of("planted bug", PLANTED), metavar="NAME", help="with this bug planted in the code"
    )
    parser.add_argument(
        "--replay",
        type=several(whole(0, 1 << 16), "3,0,7", START),
        metavar="N,N",
        help=f"play the actions with these numbers, and tell what happens; `{START}` for none",
    )
    add_out(parser, "out")


def _explore(chosen: argparse.Namespace) -> Exit:
    from kvlease.console.progress import open_console

    console = open_console()
    worlds = {name: _changed(WORLDS[name], chosen) for name in _names(chosen.names or ["full"])}
    planted: AbstractContextManager[None] = PLANTED[chosen.planted].apply() if chosen.planted else nullcontext()
    with silenced(), planted:
        if chosen.replay is not None:
            return _replay(next(iter(worlds.values())).bounds, chosen.replay, console)
        return _explore_all(worlds, chosen, console)


def _explore_all(worlds: dict[str, Chosen], chosen: argparse.Namespace, console: "Console") -> Exit:
    limits = Limits() if chosen.minutes is None else Limits(cpu_s=chosen.minutes * 60)
    all_found: dict[str, Found] = {}
    for name, world in worlds.items():
        console.print(f"{name}: {world.what}")
        found = all_found[name] = _explore_one(world, limits, console)
        console.print("\n".join(summary(name, found, chosen.planted)))
        if found.violation is not None:
            break
    console.print(totals(list(all_found.values())))
    write(chosen.out / "explore.json", [as_json(name, found) for name, found in all_found.items()])
    if any(found.violation for found in all_found.values()):
        return Exit.FOUND
    return Exit.OK if all(found.complete for found in all_found.values()) else Exit.NOT_DONE


def _explore_one(world: Chosen, limits: Limits, console: "Console") -> Found:
    from kvlease.console.progress import progress

    with progress(console, "the first states") as tell:
        search = Search(
            world.bounds,
            liveness_every=world.liveness_every,
            limits=limits,
            tell=lambda found: tell(describe_progress(found)),
        )
        return search.run()


def _replay(bounds: Bounds, numbers: tuple[int, ...], console: "Console") -> Exit:
    world = ExploredWorld(bounds)
    liveness = LivenessChecks(world)
    state = world.start()
    try:
        for count, number in enumerate(numbers, 1):
            actions = world.actions(state)
            if number >= len(actions):
                raise BadArguments(
                    f"--replay: action {count} cannot be number {number}: {len(actions)} can happen by then, "
                    "counted from 0"
                )
            console.print(f"{count:4}  {describe(actions[number])}")
            state = world.after(state, actions[number])
        liveness.ask_all(state)
    except Violation as violation:
        for action in liveness.path:
            console.print(f"      {describe(action)}")
        console.print(f"BROKEN {violation}")
        return Exit.FOUND
    console.print("no promise is broken on this way, nor on the way on from there")
    return Exit.OK


def _names(given: Iterable[str]) -> list[str]:
    return [name for each in given for name in SETS.get(each, (each,))]


def _changed(world: Chosen, chosen: argparse.Namespace) -> Chosen:
    given = {field: getattr(chosen, field) for field in (*BOUNDS, "sizes", "kinds")}
    given = {field: value for field, value in given.items() if value is not None}
    bounds = replace(world.bounds, **given, fine=world.bounds.fine or chosen.fine)
    every = world.liveness_every if chosen.liveness_every is None else chosen.liveness_every
    return replace(world, bounds=bounds, liveness_every=every)
