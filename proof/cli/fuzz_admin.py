"""`python -m proof fuzz-admin`: its arguments."""

import argparse
from typing import Any

from kvlease.console.arguments import SEEDS, real, whole
from kvlease.console.commands import Command
from kvlease.console.exits import Exit, described

MOST_MINUTES = 7 * 24 * 60.0

_DESCRIPTION = """\
Runs a producer whose leases come and go, with the agent's own listener, and has Schemathesis ask it
whatever its OpenAPI document allows, and what it does not. Every answer has to be as described."""


def add_fuzz_admin(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "fuzz-admin",
        _fuzz_admin,
        summary="requests of any kind to an operator's routes",
        description=_DESCRIPTION,
        exits=described("every answer is as described", "one is not", "a part is not installed"),
        examples=("python -m proof fuzz-admin --minutes 10",),
        parts=("schemathesis",),
        install="make fuzz-admin",
    ).add_to(commands)
    parser.add_argument(
        "--minutes", type=real(0.001, MOST_MINUTES, "minutes", 10), default=10.0, metavar="M", help="(%(default)g)"
    )
    parser.add_argument(
        "--seed", type=whole(0, SEEDS), default=0, metavar="N", help="of all chance (0: another one each time)"
    )


def _fuzz_admin(chosen: argparse.Namespace) -> Exit:
    from proof.hostile.admin import fuzz_admin

    return Exit.FOUND if fuzz_admin(chosen.minutes, chosen.seed) else Exit.OK
