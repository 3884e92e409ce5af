"""`python -m proof simulate`: its arguments, and what frames the runs."""

import argparse
import secrets
from typing import TYPE_CHECKING, Any

from kvlease.console.arguments import MANY, SEEDS, add_jobs, one_of, real, several, whole
from kvlease.console.commands import BadArguments, Command
from kvlease.console.exits import Exit, described
from kvlease.console.origin import commit
from proof.cli.simulate_router import add_router
from proof.planted import PLANTED
from proof.simulate.report import NOTHING

if TYPE_CHECKING:
    from rich.console import Console

PARTS = ("rich",)
DEFAULT_MINUTES = 1.0
MOST_MINUTES = 7 * 24 * 60.0

_DESCRIPTION = """\
Plays kvlease's own protocol, agent and fence code on a simulated network, clock and engine, with
faults, and checks its promises (S1 to S5, L1 to L3, R12, R18, R20, R22, R25, R26, and the router's)
all the time. All chance comes from a seed: the same seed and commit give the same run, everywhere."""

_FUZZ = """\
Plays one seed after the other. The first run that breaks a promise is cut down to the fewest faults
and requests that still break it, and shown with the command that replays it."""

_REPLAY = """\
Plays the run of a seed again, or what is left of it with some of its faults and requests only, and
tells every event in words."""

_PLANTED = """\
Plants bugs in the code under test, one at a time, and counts the runs until each is found: a
simulator has to be able to fail. Exit status 1 where one is not found within the runs stated for it."""

_EXITS = described("every promise kept", "one was broken", "a part is not installed")
_planted_name = one_of("planted bug", PLANTED)


def add_simulate(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "simulate",
        None,
        summary="the protocol on a simulated network, clock and engine, to be proved wrong",
        description=_DESCRIPTION,
        exits=_EXITS,
        examples=(
            "python -m proof simulate fuzz --minutes 10",
            "python -m proof simulate replay 4711 --faults 3,7 --requests 0,2",
            "python -m proof simulate planted",
            "python -m proof simulate router",
        ),
    ).add_to(commands)
    actions = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_fuzz(actions)
    _add_replay(actions)
    _add_planted(actions)
    add_router(actions)


def _add_fuzz(actions: Any) -> None:
    command = Command("fuzz", _fuzz, "play many seeds, and cut down what fails", _FUZZ, _EXITS, parts=PARTS)
    parser = command.add_to(actions)
    parser.add_argument("--runs", type=whole(1, MANY, 1000), metavar="N", help="play so many runs")
    parser.add_argument(
        "--minutes",
        type=real(0.001, MOST_MINUTES, "minutes", 10),
        metavar="M",
        help=f"play for so long ({DEFAULT_MINUTES:g} unless --runs is given; with both, whichever is over sooner)",
    )
    parser.add_argument(
        "--seed", type=whole(0, SEEDS), metavar="FIRST", help="begin with this seed instead of a random one"
    )
    parser.add_argument(
        "--failures", type=whole(1, MANY), default=1, metavar="N", help="go on until so many runs failed (1)"
    )
    add_jobs(parser)
    _add_planted_name(parser)


def _add_replay(actions: Any) -> None:
    command = Command("replay", _replay, "play one seed and tell what happens", _REPLAY, _EXITS, parts=PARTS)
    parser = command.add_to(actions)
    parser.add_argument("seed", type=whole(0, 2 * SEEDS), metavar="SEED")
    for what in ("faults", "requests"):
        parser.add_argument(
            f"--{what}",
            type=several(whole(0, MANY), "3,7", NOTHING),
            metavar="N,N",
            help=f"only these {what} of the plan, by number; `{NOTHING}` for none",
        )
    parser.add_argument("--quiet", action="store_true", help="show the plan and the verdict only")
    _add_planted_name(parser)


def _add_planted(actions: Any) -> None:
    command = Command("planted", _planted, "plant bugs and count the runs to find them", _PLANTED, _EXITS, parts=PARTS)
    parser = command.add_to(actions)
    parser.add_argument("names", nargs="*", type=_planted_name, metavar="NAME", help="only these (all)")
    parser.add_argument(
        "--runs", type=whole(1, MANY), metavar="N", help="give up on a bug after so many (what is stated for it)"
    )
    parser.add_argument(
        "--ranges", type=whole(1, 1000), default=5, metavar="N", help="hunts for each bug, from seeds far apart (5)"
    )
    parser.add_argument("--list", action="store_true", help="say what each bug is, and plant none")
    parser.add_argument("--keep", action="store_true", help="keep the runs for the manual, in proof/planted/found.json")
    add_jobs(parser)


def _add_planted_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--planted",
        type=_planted_name,
        metavar="NAME",
        help="with this bug planted; `python -m proof simulate planted --list`",
    )


# -- what the commands do ------------------------------------------------------------------------------------------


def _fuzz(chosen: argparse.Namespace) -> Exit:
    from time import monotonic

    from kvlease.console.progress import open_console, progress, show
    from proof.simulate.fuzz import RunTally, fuzz
    from proof.simulate.show import describe_sum, tables

    console = open_console()
    first = secrets.randbelow(SEEDS) if chosen.seed is None else chosen.seed
    allowed = DEFAULT_MINUTES if chosen.minutes is None and chosen.runs is None else chosen.minutes
    console.print(f"seeds from {first} on, commit {commit()}")
    began = monotonic()

    with progress(console, "the first runs") as tell:

        def watch(tally: RunTally) -> None:
            tell(describe_sum(tally, monotonic() - began))

        tally = fuzz(
            first,
            runs=chosen.runs,
            seconds=None if allowed is None else allowed * 60,
            jobs=chosen.jobs,
            planted=chosen.planted,
            failures=chosen.failures,
            watch=watch,
        )
    show(console, *tables(tally))
    console.print(describe_sum(tally, monotonic() - began))
    for failure in tally.failures[1:]:
        console.print(f"also seed {failure.seed}: {failure.rule} is broken: {failure.text}")
    if not tally.failures:
        return Exit.OK
    _explain(tally.failures[0].seed, tally.failures[0].rule, chosen.planted, console)
    return Exit.FOUND


def _explain(seed: int, rule: str, planted: str | None, console: "Console") -> None:
    from proof.simulate.fuzz import plan_for, plant
    from proof.simulate.report import describe_failure
    from proof.simulate.shrink import shrink

    console.print(f"\nseed {seed} broke {rule}; it is being cut down")
    whole_plan = plan_for(seed, planted)
    with plant(planted):
        shrunk = shrink(whole_plan, rule)
    for line in describe_failure(whole_plan, shrunk, planted):
        console.print(line)


def _replay(chosen: argparse.Namespace) -> Exit:
    from kvlease.console.progress import open_console
    from proof.simulate.fuzz import plan_for, plant
    from proof.simulate.report import describe_plan, describe_tested, describe_verdict
    from proof.simulate.run import run

    # A set has each number once; an empty one keeps none at all, and None keeps all.
    requests, faults = chosen.requests and set(chosen.requests), chosen.faults and set(chosen.faults)
    try:
        plan = plan_for(chosen.seed, chosen.planted).keeping(requests=requests, faults=faults)
    except ValueError as error:
        raise BadArguments(str(error)) from None

    console = open_console()
    console.print(describe_tested(chosen.seed, chosen.planted))
    for line in describe_plan(plan):
        console.print(line)
    with plant(chosen.planted):
        outcome = run(plan, None if chosen.quiet else console.print)
    console.print(describe_verdict(outcome))
    return Exit.OK if outcome.violation is None else Exit.FOUND


def _planted(chosen: argparse.Namespace) -> Exit:
    from kvlease.console.progress import open_console, progress, show
    from proof.planted.found import Hunted, keep
    from proof.simulate.hunt import Quarry, scores
    from proof.simulate.show import describe_quarry, planted_table

    console = open_console()
    names = chosen.names or list(PLANTED)
    if chosen.list:
        for name in names:
            bug = PLANTED[name]
            console.print(f"{name} ({', '.join(sorted(bug.rules))}): {bug.what}\n    {bug.stands_for}")
        return Exit.OK
    with progress(console, "the first hunts", plain_every_s=0.0) as tell:

        def watch(quarry: Quarry) -> None:
            tell(describe_quarry(quarry))

        found = scores(names, ranges=chosen.ranges, max_runs=chosen.runs, jobs=chosen.jobs, watch=watch)
    show(console, planted_table(found))
    if chosen.keep:
        keep({score.name: Hunted(commit(), [quarry.runs for quarry in score.quarries]) for score in found}, PLANTED)
    missed = [score.name for score in found if not score.in_time]
    console.print(f"{len(found) - len(missed)} of {len(found)} found within the runs that are stated for them")
    return Exit.FOUND if missed else Exit.OK
