"""`python -m proof load`: its arguments, and what frames the run."""

import argparse
from typing import TYPE_CHECKING, Any, NamedTuple

from kvlease.console.arguments import add_out, one_of, real, several, whole
from kvlease.console.commands import Command
from kvlease.console.exits import Exit, described

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kvlease.console.progress import Story
    from kvlease.console.tables import Table
    from proof.realengines.cores import Cores

PLAYS = ("overhead", "streams", "soak")
ROUTERS = ("kvlease", "vllm-router", "toy")

_DESCRIPTION = """\
Puts load on `kvlease router`, with fake engines that answer at once and keep books of every prefill and
every lease (kvlease.testing.http_engines). The router has one processor core, engines and clients the
other one.

overhead  what a router adds to the time to the first token and to the whole answer: kvlease's, vLLM's
          Rust router and vLLM's toy proxy, beside a client that asks P and D itself; one run, in turn
streams   many streams at once, through each router; then again, and a decode engine is killed
soak      minutes of steady traffic through one router (ours, unless --routers names another one first) while
          engines are killed and started again: none wrong, no lease stranded, the router's memory as it was

Ends with tables; each play leaves DIR/load-<play>.json, and its tables as Markdown beside it. The logs
of all processes are in DIR/logs."""


def add_load(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "load",
        _load,
        summary="the router under load, with fake engines: overhead, many streams, a long run",
        description=_DESCRIPTION,
        exits=described("every answer of ours was right, nothing stranded, memory flat", "not so", "it could not run"),
        examples=("python -m proof load --only overhead --short", "python -m proof load --only soak --minutes 2"),
        parts=("rich", "msgspec", "psutil", "aiohttp", "uvicorn", "starlette", "fastapi", "httpx"),
        install="make load",
        errors=Exit.NOT_DONE,
        left="routers and engines have been ended, nothing is left running",
    ).add_to(commands)
    parser.add_argument(
        "--only",
        type=several(one_of("play", PLAYS), "overhead,streams"),
        default=PLAYS,
        metavar="A,B",
        help=f"play only these ({', '.join(PLAYS)})",
    )
    parser.add_argument(
        "--routers",
        type=several(one_of("router", ROUTERS), "kvlease,vllm-router"),
        default=ROUTERS,
        metavar="A,B",
        help=f"the routers to play with ({', '.join(ROUTERS)})",
    )
    parser.add_argument("--short", action="store_true", help="few requests for overhead: to see that it runs")
    parser.add_argument("--streams", type=whole(1, 5000, 500), default=500, metavar="N", help="(%(default)s)")
    parser.add_argument("--tokens", type=whole(2, 1000, 60), default=60, metavar="N", help="of a stream (%(default)s)")
    parser.add_argument(
        "--token-ms", type=real(0, 1000, "milliseconds", 50), default=100.0, metavar="MS", help="(%(default)s)"
    )
    parser.add_argument(
        "--minutes", type=real(0.2, 600, "minutes", 10), default=10.0, metavar="M", help="of soak (%(default)s)"
    )
    parser.add_argument("--seed", type=whole(0, 1 << 32, 1), default=1, metavar="S", help="of soak (%(default)s)")
    add_out(parser, "out")


def _load(chosen: argparse.Namespace) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    from kvlease.console.origin import commit
    from kvlease.console.progress import Story, open_console, progress
    from proof.realengines.cores import choose_cores
    from proof.realengines.routers import require_routers

    require_routers(chosen.routers)
    story = Story(open_console())
    story.say(f"python -m proof load: {', '.join(chosen.only)} (commit {commit()})")
    cores, good = choose_cores(), True
    for name in (each for each in PLAYS if each in chosen.only):
        with progress(story.console, name) as tell:
            found = _PLAYS[name](chosen, cores, tell)
        good = _keep(story, chosen.out, name, found) and good
    return Exit.OK if good else Exit.FOUND


def _keep(story: "Story", out: "Path", name: str, found: "_Found") -> bool:
    """Shows the findings of a play, and writes them down. Returns whether ours were good."""
    from kvlease.console.files import write
    from kvlease.console.progress import show
    from proof.load.report import as_markdown, document

    show(story.console, *found.tables)
    for line in found.more:
        story.say(line)
    write(out / f"load-{name}.json", document(found.findings))
    write(out / f"load-{name}.md", as_markdown(found.tables, found.more))
    story.say(f"everything is in {out / f'load-{name}.json'}, the tables as Markdown beside it")
    return found.good


class _Found(NamedTuple):
    """The findings of a play, as they are shown, and whether those of our router are good."""

    findings: object
    tables: "list[Table]"
    more: list[str]
    good: bool


def _overhead(chosen: argparse.Namespace, cores: "Cores", tell: "Callable[[str], None]") -> _Found:
    from proof.load.overhead import ALONE, BUSY, SHORT_ALONE, SHORT_BUSY, measure_overhead
    from proof.load.report import overhead_tables
    from proof.realengines.routers import ROUTER_NAMES

    plans = (SHORT_ALONE, SHORT_BUSY) if chosen.short else (ALONE, BUSY)
    runs = measure_overhead(chosen.routers, plans, cores, chosen.out / "logs", tell)
    good = all(not each.wrong for run in runs for each in run.found if each.name == ROUTER_NAMES["kvlease"])
    return _Found(runs, [table for run in runs for table in overhead_tables(run)], [], good)


def _streams(chosen: argparse.Namespace, cores: "Cores", tell: "Callable[[str], None]") -> _Found:
    from proof.load.report import streams_table, why_not_right
    from proof.load.streams import measure_streams
    from proof.realengines.routers import ROUTER_NAMES

    size = (chosen.streams, chosen.tokens, chosen.token_ms / 1000)
    runs = [
        measure_streams(kind, *size, cores, chosen.out / "logs", tell, dies=dies)
        for dies in (False, True)
        for kind in chosen.routers
    ]
    good = all(run.right == run.streams for run in runs if run.name == ROUTER_NAMES["kvlease"])
    return _Found(runs, [streams_table(runs)], why_not_right(runs), good)


def _soak(chosen: argparse.Namespace, cores: "Cores", tell: "Callable[[str], None]") -> _Found:
    from proof.load.report import soak_table, why_lost
    from proof.load.soak import soak

    kind = chosen.routers[0]
    run = soak(kind, chosen.minutes, chosen.seed, cores, chosen.out / "logs", tell)
    return _Found(run, [soak_table(run)], why_lost(run), run.passed or kind != "kvlease")


_PLAYS = {"overhead": _overhead, "streams": _streams, "soak": _soak}
