"""The processes of a deployment: each in a group of its own, with a log of its own, known to the reaper before it runs.

A process is started in two steps. First comes a shell that waits for a line; then the reaper is told of its group; then
the shell gets its line and becomes the process. So there is no moment at which a process runs that nobody would end.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kvlease.up.plan import Launch
from kvlease.up.processes import end_group, group_members, remove, shared_memory, signal_group
from kvlease.up.reaper import Charge, Charges

GATE = 'read -r _ && exec "$@" </dev/null'
"""The shell's program: wait for a line, and become the command."""
REAPER = (sys.executable, "-m", "kvlease.up.reaper")
REAPED_WITHIN_S = 30.0


class ReaperProcess:
    """The reaper, and what it was told. Should it be gone, another one is told the same."""

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._charges = Charges()
        self._process = self._start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def tell(self, charge: Charge) -> None:
        """Tells it, and remembers what it was told."""
        self._charges.take(charge)
        if not self._write([charge]):
            self.keep_alive()

    def keep_alive(self) -> None:
        """Starts another one where this one is gone."""
        if self._process.poll() is not None:
            self._process = self._start()
            self._write(self._charges.lines())

    def close(self) -> None:
        """Has it end what is left, and waits for its end."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait(REAPED_WITHIN_S)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                REAPER, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _write(self, charges: list[Charge]) -> bool:
        pipe = self._process.stdin
        if pipe is None:
            return False
        try:
            pipe.write(b"".join(msgspec.json.encode(charge) + b"\n" for charge in charges))
            pipe.flush()
        except BrokenPipeError:
            return False
        return True


class Child:
    """One process and its group. After its end it can be started again, with its log continued."""

    def __init__(self, launch: Launch, log_path: Path, scratch: Path, reaper: ReaperProcess) -> None:
        self.launch, self.log_path = launch, log_path
        self._scratch, self._reaper = scratch, reaper
        self._process: subprocess.Popen[bytes] | None = None
        self._segments: set[Path] = set()
        self._log_mode = "wb"

    @property
    def group(self) -> int | None:
        """The id of its group; None where it does not run."""
        return None if self._process is None else self._process.pid

    def start(self, environment: Mapping[str, str]) -> None:
        """Starts it; `environment` is what it has beside the launch's own."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with self.log_path.open(self._log_mode) as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", GATE, "sh", *self.launch.command],
                env={**environment, **self.launch.environment},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._log_mode = "ab"
        self._process = process
        self._reaper.tell(Charge(group=process.pid))
        if self.launch.cores:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, self.launch.cores)
        if process.stdin is not None:
            # It may have been killed already, which is told by its end.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(b"\n")
                process.stdin.close()

    def status(self) -> int | None:
        """Returns the exit status of the group's first process, negative for a signal; None while it runs.

        The process is left a zombie until `bury`, so that its id, which is the group's, is nobody else's meanwhile.
        """
        if self._process is None:
            return None
        found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def note_memory(self) -> None:
        """Remembers its shared memory, which nobody could name once all of it was killed."""
        if self._process is not None:
            self._segments |= shared_memory(self._process.pid)
            self._reaper.tell(Charge(group=self._process.pid, segments=[str(path) for path in self._segments]))

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to its first process, which tells the others."""
        if self._process is not None and self.status() is None:
            os.kill(self._process.pid, number)

    def is_over(self) -> bool:
        """Tells whether none of its group lives."""
        return self._process is None or not group_members(self._process.pid)

    def kill(self) -> None:
        """Has the kernel end the whole group, at once; `bury` waits for it."""
        if self._process is not None:
            # The dead have mapped nothing.
            self._segments |= shared_memory(self._process.pid)
            signal_group(self._process.pid, signal.SIGKILL)

    def bury(self) -> None:
        """Ends what is left of the group, and removes its memory and its directory. Raises TimeoutError."""
        process = self._process
        if process is None:
            return
        self._segments |= shared_memory(process.pid)
        end_group(process.pid)
        process.wait()
        remove(self._segments)
        self._segments = set()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._process = None
        self._reaper.tell(Charge(group=process.pid, over=True))


def make_scratch() -> Path:
    """Makes the directory for sockets and temporary files: a short name, since a socket's may not be long."""
    return Path(tempfile.mkdtemp(prefix="kvlease-up-"))
