"""One benchmark in a process of its own: NAME EFFORT DIR on its command line writes DIR/NAME.json and the plots.

Started by `python -m proof bench`, so that threads, memory and imports of one benchmark do not disturb the next.
Progress goes to standard output (`proof.bench.frame.progress`).
"""

import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from kvlease.console.exits import Exit
from kvlease.console.files import write
from kvlease.console.origin import commit
from proof.bench.frame.document import Document
from proof.bench.frame.errors import CannotRun
from proof.bench.frame.figures import Effort
from proof.bench.frame.machine import describe
from proof.bench.frame.plots import draw
from proof.bench.frame.progress import say
from proof.bench.frame.registry import load


def main(name: str, effort: Effort, directory: Path) -> int:
    """Runs the benchmark and writes what it found. Returns the exit status."""
    at, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    try:
        result = load(name)(effort)
    except CannotRun as e:
        say(f"cannot run: {e}")
        return Exit.NOT_DONE
    took_s = time.monotonic() - begun
    document = Document.of(result, effort=effort, at=at, took_s=took_s, commit=commit(), machine=describe())
    write(directory / f"{name}.json", document)
    draw(name, result.title, result.curves, directory)
    return Exit.OK


if __name__ == "__main__":
    # SIGINT is ignored where a script has started this in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(sys.argv[1], Effort(sys.argv[2]), Path(sys.argv[3])))
