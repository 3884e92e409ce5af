"""`kvlease demo`: its arguments, and the frame around the play."""

import argparse
import asyncio
import signal
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kvlease.cluster.spec import CONNECTORS, Connector
from kvlease.demo.outcome import SCENARIOS, ScenarioName
from kvlease.errors import KvLeaseError

EXIT_KEPT = 0
EXIT_BROKEN = 1
EXIT_NOT_PLAYED = 3
EXIT_INTERRUPTED = 130

SHORTEST_LEASE_S = 1.0
LONGEST_LEASE_S = 60.0
DEFAULT_LEASE_S = 6.0

ENGINE_PARTS = ("vllm", "nixl", "torch", "transformers")
DEMO_PARTS = ("rich", "matplotlib", "httpx", "prometheus_client")

_DESCRIPTION = """\
Plays four faults on real vLLM engines with real NIXL transfers on this machine's CPU, first with
stock vLLM, then with kvlease, and compares every answer with that of an undisturbed engine:

  stall      the decoder stands still beyond its lease, then goes on
  long-step  one step of the decoder takes longer than the lease
  queue      requests wait on a living, busy decoder for several terms of the lease
  crash      the decoder is killed while requests wait on it (with a lease 5 times as long)

Takes about six minutes on two cores. Ends with a table, DIR/demo.png (the prefill engine's blocks
over time) and DIR/demo.json (every figure, and the versions). The engines' logs are in DIR/logs."""

_EPILOG = """\
exit status: 0 every promise kept, 1 one was broken, 2 bad arguments, 3 it could not be played,
130 interrupted

examples:
  kvlease demo
  kvlease demo --scenario stall --scenario crash --only kvlease"""


def add_demo(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "demo",
        help="real engines: a decoder stalled, slow, busy and killed; stock vLLM beside kvlease",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--scenario",
        action="append",
        choices=sorted(SCENARIOS),
        metavar="NAME",
        help=f"play only this one; may be given several times ({', '.join(SCENARIOS)})",
    )
    parser.add_argument("--only", choices=CONNECTORS, help="play only with this connector")
    parser.add_argument(
        "--lease-s",
        type=lease_duration,
        default=DEFAULT_LEASE_S,
        metavar="SECONDS",
        help="lease duration, %(default)g s unless given; the crash is played with five times that",
    )
    parser.add_argument(
        "--model",
        type=model_directory,
        metavar="DIR",
        help="serve the model in this directory instead of a tiny one made for the demo",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="where the results go (%(default)s)"
    )
    parser.set_defaults(run=run)


def lease_duration(text: str) -> float:
    """A lease duration in seconds, from an argument."""
    allowed = f"a number of seconds from {SHORTEST_LEASE_S:g} to {LONGEST_LEASE_S:g}, such as {DEFAULT_LEASE_S:g}"
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number: give {allowed}") from None
    if not SHORTEST_LEASE_S <= seconds <= LONGEST_LEASE_S:
        raise argparse.ArgumentTypeError(f"{text} is out of range: give {allowed}")
    return seconds


def model_directory(text: str) -> Path:
    """A directory with a model in Hugging Face's layout, from an argument."""
    directory = Path(text)
    if not (directory / "config.json").is_file():
        raise argparse.ArgumentTypeError(f"{text!r} holds no model: there is no config.json in it")
    return directory.resolve()


def run(chosen: argparse.Namespace) -> int:
    """Plays what was chosen, shows and writes the results, and returns the exit status."""
    missing = [name for name in (*DEMO_PARTS, *ENGINE_PARTS) if find_spec(name) is None]
    if missing:
        parts = ", ".join(missing)
        print(f"kvlease demo needs {parts}, not installed here. In kvlease's repository, `make demo` installs it.")
        return EXIT_NOT_PLAYED
    import httpx

    connectors: Sequence[Connector] = [chosen.only] if chosen.only else CONNECTORS
    scenarios = [name for name in SCENARIOS if not chosen.scenario or name in chosen.scenario]
    end_like_ctrl_c(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        return _play_and_report(chosen, connectors, scenarios)
    except KeyboardInterrupt:
        print("\ninterrupted: the engines have been ended, nothing is left running")
        return EXIT_INTERRUPTED
    except KvLeaseError as error:
        print(f"\nthe demo could not go on: {error}")
        return EXIT_NOT_PLAYED
    except httpx.TransportError as error:
        print(f"\nthe demo could not go on: an engine stopped answering ({error!r}); see {chosen.out / 'logs'}")
        return EXIT_NOT_PLAYED


def end_like_ctrl_c(*numbers: signal.Signals) -> None:
    """A closed terminal or a supervisor that gives up is to end the engines as well. (SIGINT is named since it is
    ignored where a script started this in the background.)"""
    for number in numbers:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _play_and_report(
    chosen: argparse.Namespace, connectors: Sequence[Connector], scenarios: Sequence[ScenarioName]
) -> int:
    # Imported late, so that --help and bad arguments answer at once.
    from rich.console import Console

    from kvlease.cluster.model import build_model
    from kvlease.demo.play import Settings, play
    from kvlease.demo.plot import draw
    from kvlease.demo.promises import judge
    from kvlease.demo.report import document, table, versions, write_document
    from kvlease.demo.show import Show

    console = Console()
    show = Show(console)
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    show.say(f"kvlease demo: {', '.join(scenarios)} with {' and then '.join(connectors)} ({used})")
    with show.busy("the model is made ready"):
        model = chosen.model or build_model("llama")
    settings = Settings(
        connectors=connectors, scenarios=scenarios, model=model, logs=chosen.out / "logs", lease_s=chosen.lease_s
    )
    outcomes = asyncio.run(play(settings, show))

    verdicts = judge(outcomes)
    took = {"lease_s": chosen.lease_s, "model": model.name, "took_s": round(show.elapsed_s(), 1)}
    write_document(chosen.out / "demo.json", document(outcomes, verdicts, took))
    draw(outcomes, chosen.out / "demo.png")
    console.print()
    console.print(table(verdicts))
    show.say(f"every figure is in {chosen.out / 'demo.json'}, P's blocks over time in {chosen.out / 'demo.png'}")
    broken = [verdict.promise.figure for verdict in verdicts if verdict.kept is False]
    if broken:
        show.say(f"[bold red]kvlease broke a promise: {'; '.join(broken)}")
        return EXIT_BROKEN
    return EXIT_KEPT
