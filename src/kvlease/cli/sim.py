"""`kvlease sim`: its arguments, and the frame around the runs."""

import argparse
import os
import secrets
import signal
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kvlease.cli.demo import end_like_ctrl_c
from kvlease.cli.fleet import add_fleet
from kvlease.sim.planted import PLANTED
from kvlease.sim.report import NOTHING

if TYPE_CHECKING:
    from rich.console import Console

EXIT_KEPT = 0
EXIT_BROKEN = 1
EXIT_BAD_ARGUMENTS = 2
EXIT_NOT_RUN = 3
EXIT_INTERRUPTED = 130

DEFAULT_MINUTES = 1.0
MOST_RUNS = 1_000_000_000
MOST_MINUTES = 7 * 24 * 60.0
SEEDS = 1 << 32

_DESCRIPTION = """\
Plays kvlease's own protocol, agent and fence code on a simulated network, clock and engine, with
faults, and checks its promises (S1 to S4, L1 to L3, R12) at every event. All chance comes from a
seed: the same seed and commit give the same run, on every machine."""

_EPILOG = """\
exit status: 0 every promise kept, 1 one was broken, 2 bad arguments, 3 a part is not installed,
130 interrupted

examples:
  kvlease sim fuzz --minutes 10
  kvlease sim replay 4711 --faults 3,7 --requests 0,2
  kvlease sim planted"""

_FUZZ = """\
Plays one seed after the other. The first run that breaks a promise is cut down to the fewest faults
and requests that still break it, and shown with the command that replays it."""

_REPLAY = """\
Plays the run of a seed again, or what is left of it with some of its faults and requests only, and
tells every event in words."""

_PLANTED = """\
Plants bugs in the code under test, one at a time, and counts the runs until each is found: a
simulator has to be able to fail. Exit status 1 where one is not found within the runs stated for it."""


def add_sim(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "sim",
        help="the protocol on a simulated network, clock and engine, to be proved wrong",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=lambda _: _show_help(parser))
    actions = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_fuzz(actions)
    _add_replay(actions)
    _add_planted(actions)
    add_fleet(actions)


def _show_help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return EXIT_KEPT


def _add_fuzz(actions: Any) -> None:
    parser = actions.add_parser("fuzz", help="play many seeds, and cut down what fails", description=_FUZZ)
    parser.add_argument("--runs", type=number(1, MOST_RUNS), metavar="N", help="play so many runs")
    parser.add_argument(
        "--minutes",
        type=minutes,
        metavar="M",
        help=f"play for so long ({DEFAULT_MINUTES:g} unless --runs is given; with both, whichever is over sooner)",
    )
    parser.add_argument(
        "--seed", type=number(0, SEEDS), metavar="FIRST", help="begin with this seed instead of a random one"
    )
    parser.add_argument(
        "--failures", type=number(1, MOST_RUNS), default=1, metavar="N", help="go on until so many runs failed (1)"
    )
    _add_jobs(parser)
    _add_planted_name(parser)
    parser.set_defaults(run=_framed(_fuzz))


def _add_replay(actions: Any) -> None:
    parser = actions.add_parser("replay", help="play one seed and tell what happens", description=_REPLAY)
    parser.add_argument("seed", type=number(0, 2 * SEEDS), metavar="SEED")
    for what in ("faults", "requests"):
        parser.add_argument(
            f"--{what}",
            type=numbers,
            metavar="N,N",
            help=f"only these {what} of the plan, by number; `{NOTHING}` for none",
        )
    parser.add_argument("--quiet", action="store_true", help="show the plan and the verdict only")
    _add_planted_name(parser)
    parser.set_defaults(run=_framed(_replay))


def _add_planted(actions: Any) -> None:
    parser = actions.add_parser("planted", help="plant bugs and count the runs to find them", description=_PLANTED)
    parser.add_argument("names", nargs="*", type=planted_name, metavar="NAME", help="only these (all)")
    parser.add_argument(
        "--runs", type=number(1, MOST_RUNS), metavar="N", help="give up on a bug after so many (what is stated for it)"
    )
    parser.add_argument(
        "--ranges", type=number(1, 1000), default=5, metavar="N", help="hunts for each bug, from seeds far apart (5)"
    )
    parser.add_argument("--list", action="store_true", help="say what each bug is, and plant none")
    _add_jobs(parser)
    parser.set_defaults(run=_framed(_planted))


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--jobs", type=number(1, 1024), default=cores, metavar="J", help=f"processes (one a core: {cores})"
    )


def _add_planted_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--planted", type=planted_name, metavar="NAME", help="with this bug planted; `kvlease sim planted --list`"
    )


# -- arguments -----------------------------------------------------------------------------------------------------


def number(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`, from an argument."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them, from an argument."""
    if text == NOTHING:
        return ()
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 3,7, nor `{NOTHING}`")
    return tuple(sorted({int(part) for part in parts}))


def minutes(text: str) -> float:
    """Minutes, from an argument."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes over 0 and up to {MOST_MINUTES:g}")
    return value


def planted_name(text: str) -> str:
    """The name of a planted bug, from an argument."""
    if text not in PLANTED:
        raise argparse.ArgumentTypeError(f"{text!r} is no planted bug; there are: {', '.join(PLANTED)}")
    return text


# -- what the commands do ------------------------------------------------------------------------------------------


def _framed(do: "Callable[[argparse.Namespace, Console], int]") -> Callable[[argparse.Namespace], int]:
    def run(chosen: argparse.Namespace) -> int:
        if find_spec("rich") is None:
            print("kvlease sim shows its results with rich, which is not installed here: `pip install rich` does it.")
            return EXIT_NOT_RUN
        from rich.console import Console

        end_like_ctrl_c(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        console = Console(highlight=False, soft_wrap=True)
        try:
            return do(chosen, console)
        except KeyboardInterrupt:
            console.print("\ninterrupted: nothing is left running")
            return EXIT_INTERRUPTED

    return run


def _fuzz(chosen: argparse.Namespace, console: "Console") -> int:
    from time import monotonic

    from kvlease.sim.fuzz import fuzz
    from kvlease.sim.report import commit
    from kvlease.sim.show import Watch, progress, sum_in_words, tables

    first = secrets.randbelow(SEEDS) if chosen.seed is None else chosen.seed
    allowed = DEFAULT_MINUTES if chosen.minutes is None and chosen.runs is None else chosen.minutes
    console.print(f"seeds from {first} on, commit {commit()}")
    began = monotonic()
    with progress(console) as (say, every_s):
        tally = fuzz(
            first,
            runs=chosen.runs,
            seconds=None if allowed is None else allowed * 60,
            jobs=chosen.jobs,
            planted=chosen.planted,
            failures=chosen.failures,
            watch=Watch(say, every_s),
        )
    for table in tables(tally):
        console.print(table)
    console.print(sum_in_words(tally, monotonic() - began))
    for failure in tally.failures[1:]:
        console.print(f"also seed {failure.seed}: {failure.rule} is broken: {failure.text}", markup=False)
    if not tally.failures:
        return EXIT_KEPT
    _explain(tally.failures[0].seed, tally.failures[0].rule, chosen.planted, console)
    return EXIT_BROKEN


def _explain(seed: int, rule: str, planted: str | None, console: "Console") -> None:
    from kvlease.sim.fuzz import plant
    from kvlease.sim.plan import draw_plan
    from kvlease.sim.report import failure_in_words
    from kvlease.sim.shrink import shrink

    console.print(f"\nseed {seed} broke {rule}; it is being cut down")
    whole = draw_plan(seed)
    with plant(planted):
        shrunk = shrink(whole, rule)
    for line in failure_in_words(whole, shrunk, planted):
        console.print(line, markup=False)


def _replay(chosen: argparse.Namespace, console: "Console") -> int:
    from kvlease.sim.fuzz import plant
    from kvlease.sim.plan import draw_plan
    from kvlease.sim.report import commit, plan_in_words, verdict_in_words
    from kvlease.sim.run import run

    try:
        plan = draw_plan(chosen.seed).keeping(requests=chosen.requests, faults=chosen.faults)
    except ValueError as error:
        console.print(f"kvlease sim replay: {error}", markup=False)
        return EXIT_BAD_ARGUMENTS

    def tell(event: str) -> None:
        console.print(event, markup=False)

    tell(f"seed {chosen.seed}, commit {commit()}" + (f", with {chosen.planted} planted" if chosen.planted else ""))
    for line in plan_in_words(plan):
        tell(line)
    with plant(chosen.planted):
        outcome = run(plan, None if chosen.quiet else tell)
    tell(verdict_in_words(outcome))
    return EXIT_KEPT if outcome.violation is None else EXIT_BROKEN


def _planted(chosen: argparse.Namespace, console: "Console") -> int:
    from kvlease.sim.hunt import Quarry, scores
    from kvlease.sim.show import planted_table, progress, quarry_in_words

    names = chosen.names or list(PLANTED)
    if chosen.list:
        for name in names:
            bug = PLANTED[name]
            console.print(f"[bold]{name}[/bold] ({', '.join(sorted(bug.rules))}): {bug.what}\n    {bug.stands_for}")
        return EXIT_KEPT
    with progress(console) as (say, _):

        def watch(quarry: Quarry) -> None:
            say(quarry_in_words(quarry))

        found = scores(names, ranges=chosen.ranges, max_runs=chosen.runs, jobs=chosen.jobs, watch=watch)
    console.print(planted_table(found))
    missed = [score.name for score in found if not score.in_time]
    console.print(f"{len(found) - len(missed)} of {len(found)} found within the runs that are stated for them")
    return EXIT_BROKEN if missed else EXIT_KEPT
