"""Ends the processes that `kvlease up` has started when it is gone, however it went: `python -m kvlease.up.reaper`.

It is told on its standard input which groups of processes there are, and it waits for the end of that: the kernel
closes the pipe when whoever holds the other end is gone, also after a SIGKILL. Then it kills the groups that are left,
and removes their shared memory and their directories. No signal that a terminal or a supervisor sends ends it before.
"""

import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from kvlease.up.processes import end_group, remove

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Charge(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of what it is told."""

    group: int = 0
    """The id of a group of processes; 0: none is meant."""
    over: bool = False
    """True: the group has ended, and its memory is removed."""
    segments: list[str] = []
    """The shared memory of the group, as far as it is known."""
    scratch: str = ""
    """A directory that nobody needs afterwards."""


class Charges:
    """All that is to be ended and removed."""

    def __init__(self) -> None:
        self.groups: dict[int, set[str]] = {}
        """The groups, with their shared memory."""
        self.scratch: set[str] = set()

    def take(self, charge: Charge) -> None:
        """Takes over what it was told."""
        if charge.scratch:
            self.scratch.add(charge.scratch)
        if charge.over:
            self.groups.pop(charge.group, None)
        elif charge.group:
            self.groups.setdefault(charge.group, set()).update(charge.segments)

    def lines(self) -> list[Charge]:
        """Returns what tells another one the same."""
        groups = [Charge(group=group, segments=sorted(segments)) for group, segments in self.groups.items()]
        return [*(Charge(scratch=path) for path in sorted(self.scratch)), *groups]

    def end_all(self) -> None:
        """Kills every group and removes what it leaves."""
        for group in self.groups:
            try:
                end_group(group)
            except (TimeoutError, PermissionError) as error:
                print(f"group {group} could not be ended: {error}", file=sys.stderr)
        for segments in self.groups.values():
            remove({Path(segment) for segment in segments})
        for path in self.scratch:
            shutil.rmtree(path, ignore_errors=True)


def read(lines: Iterable[bytes], charges: Charges) -> None:
    """Takes over line by line until there is none any more. A line that was cut off tells nothing."""
    for line in lines:
        try:
            charges.take(msgspec.json.decode(line, type=Charge))
        except msgspec.MsgspecError:
            continue


def main() -> None:
    """Waits for the end of standard input, then ends all groups that it was told."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    charges = Charges()
    read(sys.stdin.buffer, charges)
    charges.end_all()


if __name__ == "__main__":
    main()
