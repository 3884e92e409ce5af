"""`kvlease explore`: its arguments, and the frame around the exploration."""

import argparse
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvlease.explore.actions import FAULTS
from kvlease.explore.report import as_json, progress, summary, totals
from kvlease.explore.scale import Bounds, in_beats
from kvlease.explore.search import Found, Limits, Search
from kvlease.explore.settle import Settling
from kvlease.explore.words import in_words
from kvlease.explore.world import World
from kvlease.explore.worlds import SETS, WORLDS, Chosen
from kvlease.logs import silenced
from kvlease.sim.planted import PLANTED
from kvlease.sim.safety import Violation

EXIT_KEPT = 0
EXIT_BROKEN = 1
EXIT_NOT_COMPLETE = 3
EXIT_INTERRUPTED = 130

_DESCRIPTION = """\
Explores small worlds of one producer and its consumers completely: every order in which messages
arrive, workers and engines go on, and faults happen, within stated bounds. All that decides is
kvlease's own code. Checks S1 to S4, R20 and L2 after every action; and plays on from the states
without faults, to check L1, L2 and L3. Ends with the numbers of states and transitions, or with the
shortest way to a broken promise."""

_EPILOG = """\
exit status: 0 every promise kept and every world explored completely, 1 a promise was broken, 2 bad
arguments, 3 stopped before the end, 130 interrupted

examples:
  kvlease explore
  kvlease explore expiry --faults 2 --minutes 30
  kvlease explore reuse --planted slot_reused_early"""


def add_explore(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "explore",
        help="small worlds explored completely: every order of everything that can happen",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="WORLD",
        type=_name,
        help=f"a world ({', '.join(WORLDS)}) or a set of them ({', '.join(SETS)}); full unless given",
    )
    for name, most in (("beats", 60), ("faults", 8), ("blocks", 64), ("slots", 8), ("workers", 4), ("consumers", 3)):
        parser.add_argument(f"--{name}", type=_count(most), metavar="N", help=f"{name} of each of the worlds, instead")
    parser.add_argument("--sizes", type=_sizes, metavar="N,N", help="blocks of each lease, instead")
    parser.add_argument("--kinds", type=_kinds, metavar="NAME,NAME", help=f"only these faults ({', '.join(FAULTS)})")
    parser.add_argument("--fine", action="store_true", help="every block, word and worker an action of its own")
    parser.add_argument(
        "--settle-every", type=_count(1 << 40), metavar="N", help="play on from one of so many states (0: from none)"
    )
    parser.add_argument("--minutes", type=float, metavar="M", help="stop a world after so much processor time")
    parser.add_argument("--planted", choices=sorted(PLANTED), metavar="NAME", help="with this bug planted in the code")
    parser.add_argument("--replay", metavar="N,N", help="play the actions with these numbers, and tell what happens")
    parser.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="where explore.json goes (%(default)s)"
    )
    parser.set_defaults(run=explore)


def explore(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    chosen = {name: _changed(WORLDS[name], arguments) for name in _names(arguments.names or ["full"])}
    planted: AbstractContextManager[None] = nullcontext()
    if arguments.planted:
        planted = PLANTED[arguments.planted].apply()
    with silenced(), planted:
        if arguments.replay:
            return _replay(next(iter(chosen.values())).bounds, arguments.replay)
        return _explore(chosen, arguments)


def _explore(chosen: dict[str, Chosen], arguments: argparse.Namespace) -> int:
    limits = Limits() if arguments.minutes is None else Limits(cpu_s=arguments.minutes * 60)
    all_found: dict[str, Found] = {}
    for name, world in chosen.items():
        print(f"{name}: {world.what}", flush=True)
        search = Search(world.bounds, settle_every=world.settle_every, limits=limits, tell=_tell)
        try:
            found = all_found[name] = search.run()
        except KeyboardInterrupt:
            print("\ninterrupted")
            return EXIT_INTERRUPTED
        print("\r" + "\n".join(summary(name, found)), flush=True)
        if found.violation is not None:
            break
    print(totals(list(all_found.values())))
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = [as_json(name, found) for name, found in all_found.items()]
    (arguments.out / "explore.json").write_text(json.dumps(results, indent=1) + "\n")
    if any(found.violation for found in all_found.values()):
        return EXIT_BROKEN
    return EXIT_KEPT if all(found.complete for found in all_found.values()) else EXIT_NOT_COMPLETE


def _tell(found: Found) -> None:
    print(f"\r  {progress(found)}", end="", flush=True)


def _replay(bounds: Bounds, numbers: str) -> int:
    with in_beats():
        world = World(bounds)
        settling = Settling(world)
        state = world.start()
        try:
            for count, number in enumerate(int(n) for n in numbers.split(",") if n != "start"):
                action = world.actions(state)[number]
                print(f"{count + 1:4}  {in_words(action)}")
                state = world.after(state, action)
            settling.ask_all(state)
        except Violation as violation:
            for action in settling.path:
                print(f"      {in_words(action)}")
            print(f"BROKEN {violation}")
            return EXIT_BROKEN
    print("no promise is broken on this way, nor on the way on from there")
    return EXIT_KEPT


def _names(given: Iterable[str]) -> list[str]:
    return [name for each in given for name in SETS.get(each, (each,))]


def _changed(chosen: Chosen, arguments: argparse.Namespace) -> Chosen:
    fields = ("beats", "faults", "blocks", "slots", "workers", "consumers", "sizes", "kinds")
    given = {field: getattr(arguments, field) for field in fields if getattr(arguments, field) is not None}
    bounds = replace(chosen.bounds, **given, fine=chosen.bounds.fine or arguments.fine)
    every = chosen.settle_every if arguments.settle_every is None else arguments.settle_every
    return replace(chosen, bounds=bounds, settle_every=every)


def _name(text: str) -> str:
    if text not in WORLDS and text not in SETS:
        raise argparse.ArgumentTypeError(f"{text} is not a world; there are {', '.join((*WORLDS, *SETS))}")
    return text


def _count(most: int) -> Any:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) > most:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to {most}")
        return int(text)

    return parse


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_count(64)(part) for part in text.split(","))


def _kinds(text: str) -> tuple[str, ...]:
    for name in text.split(","):
        if name not in FAULTS:
            raise argparse.ArgumentTypeError(f"{name} is not a fault; there are {', '.join(FAULTS)}")
    return tuple(text.split(","))
