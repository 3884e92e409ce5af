"""`python -m proof`: what proves kvlease's promises, and what measures its costs."""

from collections.abc import Sequence

from kvlease.console.commands import run_program
from proof.cli.bench import add_bench
from proof.cli.chaos import add_chaos
from proof.cli.dashboard import add_dashboard
from proof.cli.demo import add_demo
from proof.cli.drain import add_drain
from proof.cli.explore import add_explore
from proof.cli.failover import add_failover
from proof.cli.fuzz_admin import add_fuzz_admin
from proof.cli.fuzz_bytes import add_fuzz_bytes
from proof.cli.load import add_load
from proof.cli.questions import add_questions
from proof.cli.simulate import add_simulate

_DESCRIPTION = """\
Plays, explores, attacks and measures kvlease. `make` has a command for each that sets everything up
first; what is given here are the same with all their arguments."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the process's exit status."""
    add = [
        add_demo,
        add_simulate,
        add_explore,
        add_fuzz_bytes,
        add_fuzz_admin,
        add_chaos,
        add_drain,
        add_failover,
        add_bench,
        add_dashboard,
        add_load,
        add_questions,
    ]
    return run_program("python -m proof", _DESCRIPTION, add, arguments)
