"""`python -m proof drain`: its arguments, and what frames the run."""

import argparse
import asyncio
from typing import Any

from kvlease.console.arguments import whole
from kvlease.console.commands import Command
from kvlease.console.exits import Exit, described
from proof.cli.real_engines import LEFT, PARTS, add_model_and_out, begin, engines_answer

MOST = 1_000

_DESCRIPTION = """\
Stops a prefill engine again and again, as Kubernetes does, while requests with known right answers come
all the time: POST /v1/kvlease/drain?wait=60, as in a preStop, through vLLM's API server and through the
agent's own listener in turn; then SIGTERM, with vLLM's default --shutdown-timeout of 0; then it starts
again. Nobody tells the router: it sends a prompt to P first, and whatever P says on to D, or the prompt
alone where P does not answer. Some of its requests wait in D's queue, and some routers take seconds
between P and D, so that leases are out whenever a stop begins. What D cannot read is lost
(kv_load_failure_policy "fail", vLLM's default), and every answer is compared by token ids.

Beside it the same without a drain: kvlease's P with SIGTERM alone, and stock vLLM's.

Ends with a table and DIR/drain.json (every request, every stop, the versions). The engines' logs are in
DIR/logs. A stop takes some 20 seconds, most of it P's start."""


def add_drain(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "drain",
        _drain,
        summary="real engines: P drained and stopped under traffic, every answer checked",
        description=_DESCRIPTION,
        exits=described("every promise kept", "one was broken", "it could not be played"),
        examples=("python -m proof drain --stops 3 --at-once 0", "python -m proof drain --stops 50"),
        parts=PARTS,
        install="make drain",
        errors=Exit.NOT_DONE,
        left=LEFT,
    ).add_to(commands)
    for name, least, usual, help_text in (
        ("stops", 1, 50, "how often P is drained and stopped"),
        ("at-once", 0, 5, "how often each connector's P gets SIGTERM alone"),
    ):
        parser.add_argument(
            f"--{name}",
            type=whole(least, MOST, usual),
            default=usual,
            metavar="N",
            help=f"{help_text} (%(default)s)",
        )
    add_model_and_out(parser)


def _drain(chosen: argparse.Namespace) -> Exit:
    with engines_answer(chosen.out / "logs"):
        return _play_and_report(chosen)


def _play_and_report(chosen: argparse.Namespace) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    from kvlease.console.files import write
    from kvlease.console.progress import show
    from proof.drain.judge import broken
    from proof.drain.outcome import StopsRun
    from proof.drain.play import StopsSettings, play
    from proof.drain.report import document, table

    story, model = begin(f"python -m proof drain: {chosen.stops} stops", chosen.model)
    settings = StopsSettings(stops=chosen.stops, at_once=chosen.at_once, model=model, logs=chosen.out / "logs")
    ended: list[StopsRun] = []

    def keep(run: StopsRun) -> None:
        # The file is written after each run, so that none is lost should the next one not end.
        ended.append(run)
        write(chosen.out / "drain.json", document(ended))

    runs = asyncio.run(play(settings, story, keep))
    show(story.console, table(runs))
    story.say(f"every request and every stop are in {chosen.out / 'drain.json'}")
    for promise in (found := broken(runs)):
        story.say(f"kvlease broke a promise: {promise}", "bold red")
    return Exit.FOUND if found else Exit.OK
