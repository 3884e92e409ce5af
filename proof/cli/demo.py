"""`python -m proof demo`: its arguments, and what frames the play."""

import argparse
import asyncio
from collections.abc import Sequence
from typing import Any

from kvlease.console.arguments import real
from kvlease.console.commands import Command
from kvlease.console.exits import Exit, described
from proof.cli.real_engines import LEFT, PARTS, add_model_and_out, begin, engines_answer
from proof.demo.outcome import SCENARIOS, ScenarioName
from proof.realengines.spec import CONNECTORS, Connector

DEFAULT_LEASE_S = 6.0
WHERE_TO_LOOK = (
    "to see the leases of engines of your own: kvlease top URL (live), kvlease doctor URL (what to change), kvlease "
    "explain REQUEST (one request's story), monitoring/ (alerts and a dashboard); docs/operate/see.md shows each"
)

_DESCRIPTION = """\
Plays six faults on real vLLM engines with real NIXL transfers on this machine's CPU, first with
stock vLLM, then with kvlease, and compares every answer with that of an undisturbed engine:

  stall       the decoder stands still beyond its lease, while the blocks are given to others
  stall-free  the same while the prefill engine has memory to spare
  long-step   one step of the decoder takes longer than the lease
  queue       requests wait on a living, busy decoder for several terms of the lease
  failover    one of two decoders is killed under streams: behind vLLM's toy proxy with stock vLLM,
              behind kvlease router with kvlease
  crash       the decoder is killed while requests wait on it (with a lease 5 times as long);
              another one is sent the same references

Takes about five minutes on two cores. Ends with a table, DIR/demo.png (the prefill engine's blocks
over time) and DIR/demo.json (every figure, and the versions). The engines' logs are in DIR/logs."""


def add_demo(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "demo",
        _demo,
        summary="real engines: a decoder stalled, slow, busy and killed; stock vLLM beside kvlease",
        description=_DESCRIPTION,
        exits=described("every promise kept", "one was broken", "it could not be played"),
        examples=("python -m proof demo", "python -m proof demo --scenario stall --scenario crash --only kvlease"),
        parts=PARTS,
        install="make demo",
        errors=Exit.NOT_DONE,
        left=LEFT,
    ).add_to(commands)
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
        type=real(1.0, 60.0, "seconds", DEFAULT_LEASE_S),
        default=DEFAULT_LEASE_S,
        metavar="SECONDS",
        help="lease duration, %(default)g s unless given; the crash is played with five times that",
    )
    add_model_and_out(parser)


def _demo(chosen: argparse.Namespace) -> Exit:
    connectors: Sequence[Connector] = [chosen.only] if chosen.only else CONNECTORS
    scenarios = [name for name in SCENARIOS if not chosen.scenario or name in chosen.scenario]
    with engines_answer(chosen.out / "logs"):
        return _play_and_report(chosen, connectors, scenarios)


def _play_and_report(
    chosen: argparse.Namespace, connectors: Sequence[Connector], scenarios: Sequence[ScenarioName]
) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    from kvlease.console.files import write
    from kvlease.console.progress import show
    from proof.demo.play import DemoSettings, play
    from proof.demo.plot import draw
    from proof.demo.promises import judge
    from proof.demo.report import document, table

    story, model = begin(
        f"python -m proof demo: {', '.join(scenarios)} with {' and then '.join(connectors)}", chosen.model
    )
    settings = DemoSettings(
        connectors=connectors, scenarios=scenarios, model=model, logs=chosen.out / "logs", lease_s=chosen.lease_s
    )
    outcomes = asyncio.run(play(settings, story))

    verdicts = judge(outcomes)
    took = {"lease_s": chosen.lease_s, "model": model.name, "took_s": round(story.elapsed_s(), 1)}
    write(chosen.out / "demo.json", document(outcomes, verdicts, took))
    draw(outcomes, chosen.out / "demo.png")
    show(story.console, table(verdicts))
    story.say(f"every figure is in {chosen.out / 'demo.json'}, P's blocks over time in {chosen.out / 'demo.png'}")
    story.say(WHERE_TO_LOOK)
    broken = [verdict.promise.figure for verdict in verdicts if verdict.kept is False]
    if broken:
        story.say(f"kvlease broke a promise: {'; '.join(broken)}", "bold red")
        return Exit.FOUND
    return Exit.OK
