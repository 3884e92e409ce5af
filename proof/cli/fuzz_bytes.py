"""`python -m proof fuzz-bytes`: its arguments, and what frames the fuzzing."""

import argparse
from pathlib import Path
from typing import Any

from kvlease.console.arguments import SEEDS, one_of, real, whole
from kvlease.console.commands import BadArguments, Command
from kvlease.console.exits import Exit, described
from proof.hostile.targets import TARGETS

MOST_MINUTES = 7 * 24 * 60.0

_DESCRIPTION = f"""\
Feeds whatever reads bytes, JSON or sequences of messages of strangers with inputs that are guided
by the code that they reach. An input that breaks what has to hold is kept, and shown with the
command that plays it again.

targets: {", ".join(TARGETS)}"""


def add_fuzz_bytes(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "fuzz-bytes",
        _fuzz_bytes,
        summary="inputs that strangers could send, guided by the code that they reach",
        description=_DESCRIPTION,
        exits=described("everything holds", "an input broke something", "a part is not installed"),
        examples=(
            "python -m proof fuzz-bytes --minutes 10",
            "python -m proof fuzz-bytes --minutes 5 peer client",
            "python -m proof fuzz-bytes peer --replay out/fuzz/peer/broken/FILE",
        ),
        parts=("atheris",),
        install="make fuzz-bytes",
        check=_check,
    ).add_to(commands)
    target = one_of("target", TARGETS)
    parser.add_argument("targets", nargs="*", type=target, metavar="TARGET", help="only these (all)")
    parser.add_argument(
        "--minutes",
        type=real(0.001, MOST_MINUTES, "minutes", 10),
        default=10.0,
        metavar="M",
        help="for all targets together (%(default)g)",
    )
    parser.add_argument(
        "--seed",
        type=whole(0, SEEDS),
        default=0,
        metavar="N",
        help="of the fuzzers' chance (0: another one each time)",
    )
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="play this input of the one target that is named once more"
    )


def _check(chosen: argparse.Namespace) -> None:
    """Raises BadArguments where what is to be replayed is not one target's, or not there."""
    if chosen.replay is None:
        return
    if len(chosen.targets) != 1:
        raise BadArguments(f"--replay plays one target, and {len(chosen.targets)} are named: name one, such as peer")
    if not chosen.replay.is_file():
        raise BadArguments(f"--replay {chosen.replay} is no file: give an input, such as one in out/fuzz/peer/broken")


def _fuzz_bytes(chosen: argparse.Namespace) -> Exit:
    from proof.hostile.fuzz import fuzz, replay

    if chosen.replay is None:
        outcomes = fuzz(chosen.targets or list(TARGETS), chosen.minutes, chosen.seed)
        return Exit.FOUND if any(outcome.broken for outcome in outcomes) else Exit.OK
    replay(chosen.targets[0], chosen.replay)
    print(f"{chosen.targets[0]}: {chosen.replay} breaks nothing")
    return Exit.OK
