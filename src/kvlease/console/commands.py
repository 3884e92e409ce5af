"""The frame of every command: its parser, the packages that it needs, and its exit status, whatever ends it."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NoReturn

from kvlease import __version__
from kvlease.console.exits import Exit
from kvlease.errors import KvLeaseError


class BadArguments(KvLeaseError, ValueError):
    """Arguments that are good each, but not together or for what was found. It says which, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `kvlease`, or a program of its own."""

    name: str
    do: Callable[[argparse.Namespace], Exit] | None
    """The function that runs it with the chosen arguments. None: it has commands of its own, and shows its help."""
    summary: str
    """The line about it in the list of commands."""
    description: str
    exits: str = ""
    """The meanings of its exit statuses, from `exits.described`."""
    examples: Sequence[str] = ()
    parts: Sequence[str] = ()
    """The packages without which it cannot run."""
    install: str = ""
    """The command that installs them; pip's unless given."""
    errors: Exit | None = None
    """The exit status after a `KvLeaseError`; None where that is a fault of the code, so a traceback is shown."""
    left: str = "nothing is left running"
    """The message when it is interrupted."""
    stray: str = ""
    """The hint after arguments that it does not know, where leaving them out is not the only remedy."""
    check: Callable[[argparse.Namespace], None] = lambda _: None
    """Raises `BadArguments` for arguments that do not go together; it is called before anything else."""

    def add_to(self, commands: Any) -> argparse.ArgumentParser:
        """Adds it to argparse's subparsers. Returns its parser, which has no arguments yet."""
        return self._set_up(commands.add_parser(self.name, help=self.summary, **self._texts()))

    def _texts(self) -> dict[str, Any]:
        examples = "examples:\n" + "\n".join(f"  {example}" for example in self.examples) if self.examples else ""
        return {
            "description": self.description,
            "epilog": "\n\n".join(text for text in (self.exits, examples) if text),
            "formatter_class": argparse.RawDescriptionHelpFormatter,
        }

    def _set_up(self, parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        parser.set_defaults(
            run=lambda chosen: self._run(parser, chosen), refuse=lambda unknown: self._refuse(parser, unknown)
        )
        return parser

    def _refuse(self, parser: argparse.ArgumentParser, unknown: Sequence[str]) -> NoReturn:
        hint = f": {self.stray}" if self.stray else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")

    def _run(self, parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> Exit:
        if self.do is None:
            parser.print_help()
            return Exit.OK
        prog = parser.prog
        try:
            self.check(chosen)
            missing = [part for part in self.parts if find_spec(part) is None]
            if missing:
                install = self.install or f"pip install {' '.join(missing)}"
                print(f"{prog} needs {', '.join(missing)}, not installed here: `{install}` installs it")
                return Exit.NOT_DONE
            _end_like_ctrl_c()
            return self.do(chosen)
        except KeyboardInterrupt:
            print(f"\ninterrupted: {self.left}")
            return Exit.INTERRUPTED
        except BadArguments as error:
            return _refuse(prog, error)
        except KvLeaseError as error:
            if self.errors is None:
                raise
            if self.errors is Exit.BAD_ARGUMENTS:
                return _refuse(prog, error)
            print(f"\n{prog} could not go on: {error}")
            return self.errors


def run_program(
    prog: str, description: str, add: Sequence[Callable[[Any], object]], arguments: Sequence[str] | None = None
) -> int:
    """Runs one of a program's commands and returns the process's exit status (argparse exits with 2 on bad arguments).

    Each of `add` adds a command to argparse's subparsers; without a command the program shows its help.
    """
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"kvlease {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add_one in add:
        add_one(commands)
    chosen, unknown = parser.parse_known_args(arguments)
    if unknown:
        # The command knows better than the program what it takes.
        getattr(chosen, "refuse", lambda words: parser.error(f"unrecognized arguments: {' '.join(words)}"))(unknown)
    if not hasattr(chosen, "run"):
        parser.print_help()
        return Exit.OK
    return int(chosen.run(chosen))


def _refuse(prog: str, error: KvLeaseError) -> Exit:
    print(f"{prog}: {error}", file=sys.stderr)
    return Exit.BAD_ARGUMENTS


def _end_like_ctrl_c() -> None:
    """Makes SIGTERM and SIGHUP end the command like Ctrl-C, so that what it has started ends as well. (SIGINT is set,
    too, since it is ignored where a script has started the command in the background.)"""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
