"""The exit statuses of all commands, and the paragraph about them in a command's help."""

from enum import IntEnum


class Exit(IntEnum):
    """The exit status of a command."""

    OK = 0
    """It did what was asked, and found nothing wrong."""
    FOUND = 1
    """It did what was asked, and found something wrong: a broken promise, a wrong answer, a goal that was missed."""
    BAD_ARGUMENTS = 2
    """It was asked for something that does not exist. (argparse ends with this number by itself.)"""
    NOT_DONE = 3
    """It could not finish what was asked: a package is not installed, an engine died, the time was up."""
    INTERRUPTED = 130
    """It was ended by Ctrl-C, or by a signal that counts as such. (A shell gives this status after a SIGINT.)"""


def described(ok: str, found: str | None, not_done: str, bad_arguments: str = "bad arguments") -> str:
    """Returns the paragraph of a command's help that says what its exit statuses mean.

    `found` None: the command never ends so.
    """
    meanings = {
        Exit.OK: ok,
        Exit.FOUND: found,
        Exit.BAD_ARGUMENTS: bad_arguments,
        Exit.NOT_DONE: not_done,
        Exit.INTERRUPTED: "interrupted",
    }
    return "exit status:\n" + "\n".join(f"  {status.value:<5}{said}" for status, said in meanings.items() if said)
