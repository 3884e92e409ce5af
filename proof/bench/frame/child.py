"""One benchmark in a process of its own, which is ended with this one."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvlease.up.processes import end_group
from proof import ROOT
from proof.bench.frame.figures import Effort
from proof.bench.frame.progress import said

ENDS_WITHIN_S = 60.0
"""The time that a benchmark gets to end its engines when it is interrupted."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a benchmark's process."""

    status: int
    """Its exit status; negative: the signal that killed it."""
    last_words: str
    """Its last line of progress, or of anything; "" when it wrote nothing."""


def run_child(name: str, effort: Effort, directory: Path, show: Callable[[str], None]) -> Ended:
    """Runs the benchmark; what it writes beside its progress goes to `<directory>/<name>.log`."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "proof.bench.frame.one", name, effort.value, str(directory.resolve())]
    # It has a session of its own, so that Ctrl-C reaches it once, from here, and does not interrupt its tidying up.
    with (
        (directory / f"{name}.log").open("w") as log,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        ) as child,
    ):
        try:
            last = _follow(child, log.write, show)
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            _wait_for_end(child)
            raise
    return Ended(child.returncode, last)


def _follow(child: "subprocess.Popen[str]", log: Callable[[str], object], show: Callable[[str], None]) -> str:
    last = ""
    assert child.stdout is not None
    for line in child.stdout:
        if (text := said(line)) is not None:
            show(text)
            last = text
        elif line.strip():
            log(line)
            last = line.strip()
    child.wait()
    return last


def _wait_for_end(child: "subprocess.Popen[str]") -> None:
    try:
        child.communicate(timeout=ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        end_group(child.pid)
