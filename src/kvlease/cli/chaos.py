"""`kvlease chaos`: its arguments, and the frame around the run."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kvlease.chaos.schedule import CLIENTS, FAULTS, MIN_REQUESTS_A_FAULT, NETWORK_FAULTS, Schedule, draw_schedule
from kvlease.cli.demo import (
    DEMO_PARTS,
    ENGINE_PARTS,
    EXIT_BROKEN,
    EXIT_INTERRUPTED,
    EXIT_KEPT,
    EXIT_NOT_PLAYED,
    end_like_ctrl_c,
    model_directory,
)
from kvlease.cluster.spec import CONNECTORS, Connector
from kvlease.errors import KvLeaseError

EXIT_BAD_ARGUMENTS = 2
DEFAULT_SEED = 4
DEFAULT_REQUESTS = 500
DEFAULT_FAULTS = 40
MOST = 100_000

_DESCRIPTION = f"""\
Starts one prefill and two decode engines of real vLLM on this machine's CPU, lets requests with
known right answers come all the time, and lets faults happen, both drawn from a seed. Every answer
is compared by token ids. After each fault, when nobody wants them any more, all blocks of the
prefill engine must come free; at the end nothing may be left. Some decode engine fails late reads
(vLLM's default), the other one computes them again.

faults:
{chr(10).join(f"  {kind:12}{meaning}" for kind, meaning in FAULTS.items())}

clients:
{chr(10).join(f"  {client:12}{meaning}" for client, meaning in CLIENTS.items())}

{", ".join(sorted(NETWORK_FAULTS))} need root and Debian's iproute2 (ip and tc): the engines then run in
network namespaces of their own. Elsewhere other faults take their place.

Ends with a table and DIR/chaos.json (the schedule, every answer, every fault, the versions). The
engines' logs are in DIR/logs. 500 requests and 40 faults take about half an hour on two cores, for
each connector."""

_EPILOG = """\
exit status: 0 every promise of kvlease kept, 1 one was broken, 2 bad arguments, 3 it could not be
run, 130 interrupted

examples:
  kvlease chaos --requests 60 --faults 5
  kvlease chaos --seed 7 --connector kvlease --connector stock"""


def add_chaos(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "chaos",
        help="real engines: faults drawn from a seed under constant traffic, every answer checked",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seed",
        type=whole_number("a seed", 0),
        default=DEFAULT_SEED,
        metavar="N",
        help="of the schedule (%(default)s)",
    )
    parser.add_argument(
        "--requests",
        type=whole_number("a number of requests", MIN_REQUESTS_A_FAULT),
        default=DEFAULT_REQUESTS,
        metavar="N",
        help="how many, in all (%(default)s)",
    )
    parser.add_argument(
        "--faults",
        type=whole_number("a number of faults", 1),
        default=DEFAULT_FAULTS,
        metavar="N",
        help=f"how many; there must be {MIN_REQUESTS_A_FAULT} requests for each (%(default)s)",
    )
    parser.add_argument(
        "--connector",
        action="append",
        choices=CONNECTORS,
        help="play the schedule with this one; may be given several times (kvlease)",
    )
    parser.add_argument("--no-network", action="store_true", help="no faults of the network, no namespaces")
    parser.add_argument(
        "--model",
        type=model_directory,
        metavar="DIR",
        help="serve the model in this directory instead of a tiny one made for it",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="where the results go (%(default)s)"
    )
    parser.set_defaults(run=run)


def whole_number(what: str, least: int) -> Any:
    """A parser of arguments that are whole numbers from `least` up."""

    def parse(text: str) -> int:
        allowed = f"a whole number from {least} to {MOST}, such as {max(least, 40)}"
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}: give {allowed}") from None
        if not least <= number <= MOST:
            raise argparse.ArgumentTypeError(f"{text} is out of range for {what}: give {allowed}")
        return number

    return parse


def run(chosen: argparse.Namespace) -> int:
    """Plays what was chosen, shows and writes the results, and returns the exit status."""
    if chosen.requests < MIN_REQUESTS_A_FAULT * chosen.faults:
        print(
            f"kvlease chaos: --requests {chosen.requests} is too few for --faults {chosen.faults}: give "
            f"--requests {MIN_REQUESTS_A_FAULT * chosen.faults} or more, or --faults "
            f"{chosen.requests // MIN_REQUESTS_A_FAULT} or less",
            file=sys.stderr,
        )
        return EXIT_BAD_ARGUMENTS
    missing = [name for name in (*DEMO_PARTS, *ENGINE_PARTS) if find_spec(name) is None]
    if missing:
        parts = ", ".join(missing)
        print(f"kvlease chaos needs {parts}, not installed here. In kvlease's repository, `make chaos` installs it.")
        return EXIT_NOT_PLAYED
    import httpx

    end_like_ctrl_c(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        return _play_and_report(chosen, chosen.connector or ["kvlease"])
    except KeyboardInterrupt:
        print("\ninterrupted: the engines have been ended, nothing is left running")
        return EXIT_INTERRUPTED
    except KvLeaseError as error:
        print(f"\nchaos could not go on: {error}")
        return EXIT_NOT_PLAYED
    except httpx.TransportError as error:
        print(f"\nchaos could not go on: an engine stopped answering ({error!r}); see {chosen.out / 'logs'}")
        return EXIT_NOT_PLAYED


def _play_and_report(chosen: argparse.Namespace, connectors: Sequence[Connector]) -> int:
    # Imported late, so that --help and bad arguments answer at once.
    from rich.console import Console

    from kvlease.chaos.judge import broken
    from kvlease.chaos.outcome import Run
    from kvlease.chaos.play import Settings, play
    from kvlease.chaos.report import document, table
    from kvlease.cluster.model import build_model
    from kvlease.demo.report import versions, write_document
    from kvlease.demo.show import Show

    console = Console()
    show = Show(console)
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    show.say(f"kvlease chaos: seed {chosen.seed}, {' and then '.join(connectors)} ({used})")
    schedule = _schedule(chosen, show)
    with show.busy("the model is made ready"):
        model = chosen.model or build_model("llama")
    settings = Settings(model=model, logs=chosen.out / "logs")
    runs: list[Run] = []
    for connector in connectors:
        runs.append(asyncio.run(play(connector, schedule, settings, show)))
        # After each: should the next one not come to its end, this one is not lost.
        write_document(chosen.out / "chaos.json", document(runs))

    console.print()
    console.print(table(runs))
    show.say(f"the schedule, every answer and every fault are in {chosen.out / 'chaos.json'}")
    found = {figure: cases for run in runs if run.connector == "kvlease" for figure, cases in broken(run).items()}
    for figure, cases in found.items():
        show.say(f"[bold red]kvlease broke a promise: {figure}: {'; '.join(cases)}")
    return EXIT_BROKEN if found else EXIT_KEPT


def _schedule(chosen: argparse.Namespace, show: Any) -> Schedule:
    from kvlease.cluster.network import Network, NetworkUnavailable

    network = not chosen.no_network
    if network:
        try:
            with Network(["trial"]):
                pass
        except NetworkUnavailable as error:
            network = False
            show.say(f"[yellow]no faults of the network ({', '.join(sorted(NETWORK_FAULTS))}): {error}")
    return draw_schedule(chosen.seed, requests=chosen.requests, faults=chosen.faults, network=network)
