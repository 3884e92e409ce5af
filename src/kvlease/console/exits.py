"""The exit statuses of every command: one table, and what a command's help says of them."""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    """It did what was asked, and found nothing wrong."""
    FOUND = 1
    """It did what was asked, and found something wrong: a broken promise, a wrong answer, a goal that was missed."""
    BAD_ARGUMENTS = 2
    """It was asked for something that there is not. (argparse ends with this number by itself.)"""
    NOT_DONE = 3
    """It could not do what was asked, or not to the end: a part is not installed, an engine died, the time was up."""
    INTERRUPTED = 130
    """Ctrl-C, or a signal that is taken for it. (What a shell makes of a command that SIGINT has ended.)"""


def described(ok: str, found: str, not_done: str, bad_arguments: str = "bad arguments") -> str:
    """The paragraph of a command's help that says what its exit statuses mean."""
    meanings = {
        Exit.OK: ok,
        Exit.FOUND: found,
        Exit.BAD_ARGUMENTS: bad_arguments,
        Exit.NOT_DONE: not_done,
        Exit.INTERRUPTED: "interrupted",
    }
    return "exit status:\n" + "\n".join(f"  {status.value:<5}{meaning}" for status, meaning in meanings.items())
