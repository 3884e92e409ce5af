"""`python -m benchmarks`: runs benchmarks one after the other, and shows every figure beside stock's and its goal."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Effort
from benchmarks.registry import BENCHMARKS

if TYPE_CHECKING:
    from rich.console import Console

EXIT_MEASURED = 0
EXIT_GOAL_MISSED = 1
EXIT_CANNOT_RUN = 3
EXIT_INTERRUPTED = 130
PARTS = ("rich", "matplotlib", "msgspec")
PLAIN_WIDTH = 140
"""Columns of a table that goes into a file."""

_EPILOG = """\
exit status: 0 everything was measured and no goal missed, 1 a goal was missed, 2 bad arguments,
3 a benchmark could not run, 130 interrupted

examples:
  python -m benchmarks --only renewal,step --short
  python -m benchmarks --summary"""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What a lease costs, beside what vLLM's own mechanism costs in the same run. Each benchmark leaves "
        "DIR/<name>.json, its plots, and in DIR/<name>.log what vLLM had to say.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", type=names, metavar="A,B", help="run only these (--list names them)")
    parser.add_argument("--short", action="store_true", help="enough to see that it runs: less than two minutes each")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--list", action="store_true", help="name the benchmarks, and run none")
    parser.add_argument("--summary", action="store_true", help="show what DIR holds, and run none")
    parser.add_argument("--markdown", action="store_true", help="the same as Markdown, every figure of it")
    return parser


def names(text: str) -> list[str]:
    """Names of benchmarks, from an argument; in the order in which they run."""
    chosen = [name.strip() for name in text.split(",")]
    for name in chosen:
        if name not in BENCHMARKS:
            raise argparse.ArgumentTypeError(f"{name!r} is no benchmark: choose from {', '.join(BENCHMARKS)}")
    return [name for name in BENCHMARKS if name in chosen]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is asked for. Returns the exit status."""
    chosen = arguments().parse_args(argv)
    if chosen.list:
        for name, line in BENCHMARKS.items():
            print(f"  {name:12} {line}")
        return EXIT_MEASURED
    missing = [name for name in PARTS if find_spec(name) is None]
    if missing:
        print(f"the benchmarks need {', '.join(missing)}, not installed here: `make bench` installs it")
        return EXIT_CANNOT_RUN
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return _run_and_show(chosen, console)
    except KeyboardInterrupt:
        console.print("interrupted; what was measured before is kept")
        return EXIT_INTERRUPTED


def _run_and_show(chosen: argparse.Namespace, console: "Console") -> int:
    from benchmarks.document import read_all
    from benchmarks.errors import CannotRun
    from benchmarks.machine import commit, describe
    from benchmarks.markdown import page
    from benchmarks.report import goal_table, machine_text

    effort = Effort.SHORT if chosen.short else Effort.FULL
    to_run = [] if chosen.summary or chosen.markdown else chosen.only or list(BENCHMARKS)
    if to_run:
        console.print(f"kvlease {commit()}, {effort.value}; {machine_text(describe())}", highlight=False)
    failed = [name for name in to_run if not _run_one(name, effort, chosen.out, console)]
    try:
        documents = read_all(chosen.out, chosen.only or list(BENCHMARKS))
    except CannotRun as e:
        console.print(f"[bold red]{e}", highlight=False)
        return EXIT_CANNOT_RUN
    if not documents and not to_run:
        console.print(f"{chosen.out} holds no figures: run some first, for example with --only renewal")
        return EXIT_CANNOT_RUN
    if chosen.markdown:
        print(page(documents), end="")
    elif len(to_run) != 1:
        console.print(goal_table(documents))
    if failed:
        console.print(f"[bold red]could not run: {', '.join(failed)}", highlight=False)
        return EXIT_CANNOT_RUN
    return EXIT_GOAL_MISSED if any(document.missed for document in documents) else EXIT_MEASURED


def _run_one(name: str, effort: Effort, directory: Path, console: "Console") -> bool:
    """Runs one and shows what it found. False: it could not run."""
    from benchmarks.child import run_child
    from benchmarks.document import read
    from benchmarks.report import result_table

    with _progress(console, name) as show:
        ended = run_child(name, effort, directory, show)
    if ended.status != 0:
        why = ended.last_words or f"it ended with status {ended.status}"
        console.print(f"[bold red]{name}[/]: {why}\n  see {directory / name}.log", highlight=False)
        return False
    document = read(directory / f"{name}.json")
    console.print(result_table(document))
    console.print(f"{name} took {document.took_s:.0f} s; {directory / name}.json, plots beside it\n", highlight=False)
    return True


@contextmanager
def _progress(console: "Console", name: str) -> Iterator[Callable[[str], None]]:
    """How to show a line of progress: in place on a terminal, else one below the other."""
    if not console.is_terminal:
        yield lambda text: console.print(f"{name}: {text}", highlight=False, markup=False)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task(name, total=None)
        yield lambda text: bar.update(line, description=f"{name}: {text}")


if __name__ == "__main__":
    sys.exit(main())
