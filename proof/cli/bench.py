"""`python -m proof bench`: runs benchmarks one after the other, and shows every figure beside stock's and its goal."""

import argparse
import os
from typing import TYPE_CHECKING, Any

from kvlease.console.arguments import add_out, one_of, several
from kvlease.console.commands import BadArguments, Command
from kvlease.console.exits import Exit, described
from proof.bench.fence.paths import DATA_VARIABLE, PATHS
from proof.bench.frame.figures import Effort
from proof.bench.frame.registry import BENCHMARKS

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

DESCRIPTION = """\
What a lease costs, beside what vLLM's own mechanism costs in the same run. Each benchmark leaves
DIR/<name>.json, its plots, and in DIR/<name>.log what vLLM had to say."""


def add_bench(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "bench",
        _run_and_show,
        summary="what a lease costs",
        description=DESCRIPTION,
        exits=described("everything was measured and no goal missed", "a goal was missed", "a benchmark could not run"),
        examples=("python -m proof bench --only renewal,step --short", "python -m proof bench --summary"),
        parts=("rich", "matplotlib", "msgspec", "psutil"),
        install="make bench",
        left="what was measured before is kept",
    ).add_to(commands)
    parser.add_argument(
        "--only",
        type=several(one_of("benchmark", BENCHMARKS), "renewal,step"),
        metavar="A,B",
        help="run only these (--list names them)",
    )
    parser.add_argument("--short", action="store_true", help="enough to see that it runs: less than two minutes each")
    parser.add_argument(
        "--data",
        type=several(one_of("place for the data", PATHS), "host,device"),
        default=(),
        metavar="A,B",
        help=f"of `fence`: where its KV cache lies ({', '.join(PATHS)}); all that this machine can unless given",
    )
    add_out(parser, "out/bench")
    parser.add_argument("--list", action="store_true", help="name the benchmarks, and run none")
    parser.add_argument("--summary", action="store_true", help="show what DIR holds, and run none")
    parser.add_argument("--markdown", action="store_true", help="the same as Markdown, every figure of it")


def _run_and_show(chosen: argparse.Namespace) -> Exit:
    from kvlease.console.origin import commit
    from kvlease.console.progress import open_console, show
    from proof.bench.frame.document import read_all
    from proof.bench.frame.errors import CannotRun
    from proof.bench.frame.machine import describe
    from proof.bench.frame.report import goals_table, machine_text, page

    console = open_console()
    effort = Effort.SHORT if chosen.short else Effort.FULL
    if chosen.list:
        for name, benchmark in BENCHMARKS.items():
            print(f"  {name:12} {benchmark.what}")
        return Exit.OK
    names = [name for name in BENCHMARKS if not chosen.only or name in chosen.only]
    to_run = [] if chosen.summary or chosen.markdown else names
    if chosen.data:
        if "fence" not in to_run:
            raise BadArguments("--data is of the benchmark fence, which is not to run here: add it to --only")
        # Each benchmark runs in a process of its own, which inherits this.
        os.environ[DATA_VARIABLE] = ",".join(chosen.data)
    if to_run:
        console.print(f"kvlease {commit()}, {effort.value}; {machine_text(describe())}")
    failed = [name for name in to_run if not _run_one(name, effort, chosen.out, console)]
    try:
        documents = read_all(chosen.out, names)
    except CannotRun as e:
        console.print(str(e), style="bold red")
        return Exit.NOT_DONE
    if not documents and not to_run:
        console.print(f"{chosen.out} holds no figures: run some first, for example with --only renewal")
        return Exit.NOT_DONE
    if chosen.markdown:
        print(page(documents), end="")
    elif len(to_run) != 1:
        show(console, goals_table(documents))
    if failed:
        console.print(f"could not run: {', '.join(failed)}", style="bold red")
        return Exit.NOT_DONE
    return Exit.FOUND if any(document.missed for document in documents) else Exit.OK


def _run_one(name: str, effort: Effort, directory: "Path", console: "Console") -> bool:
    """Runs one benchmark and shows what it found. False: it could not run."""
    from kvlease.console.progress import progress, show
    from proof.bench.frame.child import run_child
    from proof.bench.frame.document import read
    from proof.bench.frame.report import figures_table, goals_table, notes_list

    with progress(console, name, plain_every_s=0.0) as tell:
        ended = run_child(name, effort, directory, lambda text: tell(f"{name}: {text}"))
    if ended.status != Exit.OK:
        why = ended.last_words or f"it ended with status {ended.status}"
        console.print(f"{name}: {why}\n  see {directory / name}.log", style="bold red")
        return False
    document = read(directory / f"{name}.json")
    show(console, figures_table(document), *([goals_table([document])] if document.goals else []))
    console.print(notes_list(document), style="dim")
    console.print(f"{name} took {document.took_s:.0f} s; {directory / name}.json, plots beside it\n")
    return True
