"""`python -m proof failover`: its arguments, and what frames the run."""

import argparse
import asyncio
from typing import Any

from kvlease.console.arguments import whole
from kvlease.console.commands import Command
from kvlease.console.exits import Exit, described
from proof.cli.real_engines import LEFT, PARTS, add_model_and_out, begin, engines_answer
from proof.failover.outcome import FAULTS

MOST = 64
ROUTERS = ("kvlease", "unfenced", "vllm-router", "toy")
"""The names of the arms (`proof.failover.arms`), which need httpx."""

_DESCRIPTION = """\
Puts a router before one prefill engine and two decode engines, real vLLM with real NIXL transfers on
this machine's CPU, and lets 16 clients stream answers from it without a pause. Then one engine fails:

  killed     one D gets SIGKILL
  stopped    one D gets SIGSTOP, for longer than any client waits for a token (25 s), then SIGCONT
  draining   one D gets SIGTERM, with --shutdown-timeout 30
  full       one D answers 503 (--max-num-queued-reqs)
  p-killed   P gets SIGKILL and starts again

Every answer is compared by token ids with that of a D alone. P's own counters say whether a prompt was
prefilled twice (its prefix cache is off), and how many blocks it still holds 3 s after the last answer.

The routers: kvlease's with kvlease's engines; the same before stock vLLM, made to send a reference to a
second D as if it had a lease (`unfenced`); vllm-router 0.1.17 and vLLM's toy proxy before stock vLLM.
P has memory for some ten prompts, so that blocks that are freed are soon other prompts'.

Ends with a table and DIR/failover.json (every request, the versions). The logs of engines and routers
are in DIR/logs. All of it takes some 15 minutes on two cores, one router some four."""


def add_failover(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "failover",
        _failover,
        summary="real engines: one of two decode engines fails under 16 streams; three routers side by side",
        description=_DESCRIPTION,
        exits=described("every promise kept", "one was broken", "it could not be played"),
        examples=(
            "python -m proof failover",
            "python -m proof failover --router kvlease --router toy --fault killed",
        ),
        parts=PARTS,
        install="make failover",
        errors=Exit.NOT_DONE,
        left=LEFT,
    ).add_to(commands)
    for name, choices in (("router", ROUTERS), ("fault", tuple(FAULTS))):
        parser.add_argument(
            f"--{name}",
            action="append",
            choices=choices,
            metavar="NAME",
            help=f"play only this one; may be given several times ({', '.join(choices)})",
        )
    parser.add_argument(
        "--streams",
        type=whole(2, MOST, 16),
        default=16,
        metavar="N",
        help="clients that stream at a time (%(default)s)",
    )
    add_model_and_out(parser)


def _failover(chosen: argparse.Namespace) -> Exit:
    with engines_answer(chosen.out / "logs"):
        return _play_and_report(chosen)


def _play_and_report(chosen: argparse.Namespace) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    from kvlease.console.files import write
    from kvlease.console.progress import show
    from proof.failover.arms import ARMS
    from proof.failover.judge import broken
    from proof.failover.outcome import SceneRun
    from proof.failover.play import FailoverSettings, play
    from proof.failover.report import document, table

    faults = [fault for fault in FAULTS if not chosen.fault or fault in chosen.fault]
    arms = [arm for arm in ARMS if not chosen.router or arm.name in chosen.router]
    what = f"{', '.join(faults)} with {', '.join(arm.name for arm in arms)}"
    story, model = begin(f"python -m proof failover: {what}", chosen.model)
    settings = FailoverSettings(arms=arms, faults=faults, streams=chosen.streams, model=model, logs=chosen.out / "logs")
    ended: list[SceneRun] = []

    def keep(run: SceneRun) -> None:
        # The file is written after each scene, so that none is lost should the next one not end.
        ended.append(run)
        write(chosen.out / "failover.json", document(ended))

    runs = asyncio.run(play(settings, story, keep))
    show(story.console, table(runs))
    story.say(f"every request is in {chosen.out / 'failover.json'}")
    for promise in (found := broken(runs)):
        story.say(f"kvlease broke a promise: {promise}", "bold red")
    return Exit.FOUND if found else Exit.OK
