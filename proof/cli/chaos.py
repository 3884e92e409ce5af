"""`python -m proof chaos`: its arguments, and what frames the run."""

import argparse
import asyncio
from typing import Any

from kvlease.console.arguments import SEEDS, whole
from kvlease.console.commands import BadArguments, Command
from kvlease.console.exits import Exit, described
from proof.chaos.schedule import CLIENTS, FAULTS, MEMORY, MIN_REQUESTS_A_FAULT, NETWORK_FAULTS, Schedule, draw_schedule
from proof.cli.real_engines import LEFT, PARTS, add_model_and_out, begin, engines_answer
from proof.realengines.spec import CONNECTORS

MOST = 100_000

_DESCRIPTION = f"""\
Starts one prefill and two decode engines of real vLLM on this machine's CPU, lets requests with
known right answers come all the time, and lets faults happen, both drawn from a seed. Every answer
is compared by token ids. After each fault, when nobody wants them any more, all blocks of the
prefill engine must come free; at the end nothing may be left. One decode engine fails late reads
(vLLM's default), the other one computes them again.

faults:
{chr(10).join(f"  {kind:12}{meaning}" for kind, meaning in FAULTS.items())}

clients:
{chr(10).join(f"  {client:12}{meaning}" for client, meaning in CLIENTS.items())}

memory:
{chr(10).join(f"  {memory:12}{meaning}" for memory, meaning in MEMORY.items())}

{", ".join(sorted(NETWORK_FAULTS))} need root and Debian's iproute2 (ip and tc): the engines then run in
network namespaces of their own. Elsewhere other faults take their place.

Ends with a table and DIR/chaos.json (the schedule, every answer, every fault, the versions). The
engines' logs are in DIR/logs. 500 requests and 40 faults take 20 to 26 minutes on two cores, for each
connector."""


def add_chaos(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "chaos",
        _chaos,
        summary="real engines: faults drawn from a seed under constant traffic, every answer checked",
        description=_DESCRIPTION,
        exits=described("every promise of kvlease kept", "one was broken", "it could not be run"),
        examples=(
            "python -m proof chaos --requests 60 --faults 5",
            "python -m proof chaos --seed 7 --connector kvlease --connector stock",
        ),
        parts=PARTS,
        install="make chaos",
        errors=Exit.NOT_DONE,
        left=LEFT,
        check=_check,
    ).add_to(commands)
    for name, least, usual, help_text in (
        ("seed", 0, 4, "of the schedule"),
        ("requests", MIN_REQUESTS_A_FAULT, 500, "how many, in all"),
        ("faults", 1, 40, f"how many; there must be {MIN_REQUESTS_A_FAULT} requests for each"),
    ):
        most = SEEDS if name == "seed" else MOST
        parser.add_argument(
            f"--{name}",
            type=whole(least, most, usual),
            default=usual,
            metavar="N",
            help=f"{help_text} (%(default)s)",
        )
    parser.add_argument(
        "--connector",
        action="append",
        choices=CONNECTORS,
        help="play the schedule with this one; may be given several times (kvlease)",
    )
    parser.add_argument(
        "--memory",
        choices=list(MEMORY),
        default="full",
        help="how full the prefill engine's memory is (%(default)s)",
    )
    parser.add_argument("--no-network", action="store_true", help="no faults of the network, no namespaces")
    add_model_and_out(parser)


def _check(chosen: argparse.Namespace) -> None:
    """Raises BadArguments where there are too few requests for the faults."""
    if chosen.requests < MIN_REQUESTS_A_FAULT * chosen.faults:
        raise BadArguments(
            f"--requests {chosen.requests} is too few for --faults {chosen.faults}: give "
            f"--requests {MIN_REQUESTS_A_FAULT * chosen.faults} or more, or --faults "
            f"{chosen.requests // MIN_REQUESTS_A_FAULT} or less"
        )


def _chaos(chosen: argparse.Namespace) -> Exit:
    with engines_answer(chosen.out / "logs"):
        return _play_and_report(chosen)


def _play_and_report(chosen: argparse.Namespace) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    from kvlease.console.files import write
    from kvlease.console.progress import show
    from proof.chaos.judge import broken
    from proof.chaos.outcome import Run
    from proof.chaos.play import ChaosSettings, play
    from proof.chaos.report import document, table

    connectors = chosen.connector or ["kvlease"]
    story, model = begin(
        f"python -m proof chaos: seed {chosen.seed}, memory {chosen.memory}, {' and then '.join(connectors)}",
        chosen.model,
    )
    schedule = _schedule(chosen, story)
    settings = ChaosSettings(model=model, logs=chosen.out / "logs", memory=chosen.memory)
    runs: list[Run] = []
    for connector in connectors:
        runs.append(asyncio.run(play(connector, schedule, settings, story)))
        # The file is written after each run, so that none is lost should the next one not end.
        write(chosen.out / "chaos.json", document(runs))

    show(story.console, table(runs))
    story.say(f"the schedule, every answer and every fault are in {chosen.out / 'chaos.json'}")
    found = {figure: cases for run in runs if run.connector == "kvlease" for figure, cases in broken(run).items()}
    for figure, cases in found.items():
        story.say(f"kvlease broke a promise: {figure}: {'; '.join(cases)}", "bold red")
    return Exit.FOUND if found else Exit.OK


def _schedule(chosen: argparse.Namespace, story: Any) -> Schedule:
    from proof.realengines.network import Network, NetworkUnavailable

    network = not chosen.no_network
    if network:
        try:
            with Network(["trial"]):
                pass
        except NetworkUnavailable as error:
            network = False
            story.say(f"no faults of the network ({', '.join(sorted(NETWORK_FAULTS))}): {error}", "yellow")
    return draw_schedule(chosen.seed, requests=chosen.requests, faults=chosen.faults, network=network)
