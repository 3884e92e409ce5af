"""`python -m proof load`: its arguments, and what frames the run."""

import argparse
from typing import TYPE_CHECKING, Any

from kvlease.console.arguments import add_out, one_of, real, several, whole
from kvlease.console.commands import Command
from kvlease.console.exits import Exit, described

if TYPE_CHECKING:
    from collections.abc import Callable

    from proof.load.outcome import OverheadRun, SoakRun, StreamsRun
    from proof.realengines.cores import Cores

PLAYS = ("overhead", "streams", "soak")

_DESCRIPTION = """\
Puts load on `kvlease router`, with fake engines that answer at once and keep books of every prefill and
every lease (kvlease.testing.http_engines). The router has one processor core, engines and clients the
other one.

overhead  what a router adds to the time to the first token and to the whole answer: kvlease's, vLLM's
          Rust router and vLLM's toy proxy, beside a client that asks P and D itself; one run, in turn
streams   many streams at once, through each router; then again, and a decode engine is killed
soak      minutes of steady traffic through kvlease's router while engines are killed and started again:
          no answer wrong, no lease stranded, the router's memory as it was

Ends with tables and DIR/load.json. The logs of all processes are in DIR/logs."""


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
        type=several(one_of("router", ("kvlease", "rust", "toy")), "kvlease,rust"),
        default=("kvlease", "rust", "toy"),
        metavar="A,B",
        help="the routers of overhead and streams (kvlease,rust,toy)",
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
    from kvlease.console.files import write
    from kvlease.console.origin import commit
    from kvlease.console.progress import Story, open_console, progress, show
    from proof.load.report import document, overhead_tables, soak_table, streams_reasons, streams_table
    from proof.realengines.cores import choose_cores

    story = Story(open_console())
    story.say(f"python -m proof load: {', '.join(chosen.only)} (commit {commit()})")
    cores = choose_cores()
    with progress(story.console, "load") as tell:
        overhead = _overhead(chosen, cores, tell) if "overhead" in chosen.only else []
        streams = _streams(chosen, cores, tell) if "streams" in chosen.only else []
        soaked = _soak(chosen, cores, tell) if "soak" in chosen.only else None
    show(
        story.console,
        *[table for run in overhead for table in overhead_tables(run)],
        *([streams_table(streams)] if streams else []),
    )
    for line in streams_reasons(streams):
        story.say(line)
    if soaked is not None:
        show(story.console, soak_table(soaked))
        for why, number in soaked.whys.most_common():
            story.say(f"lost: {number} times: {why}")
    write(chosen.out / "load.json", document(overhead, streams, soaked))
    story.say(f"everything is in {chosen.out / 'load.json'}")
    return Exit.OK if _good(overhead, streams, soaked) else Exit.FOUND


def _names(chosen: argparse.Namespace) -> list[str]:
    from proof.load.routers import OURS, RUST, TOY

    known = {"kvlease": OURS, "rust": RUST, "toy": TOY}
    return [known[name] for name in chosen.routers]


def _overhead(chosen: argparse.Namespace, cores: "Cores", tell: "Callable[[str], None]") -> "list[OverheadRun]":
    from proof.load.overhead import ALONE, BUSY, SHORT_ALONE, SHORT_BUSY, measure_overhead
    from proof.load.routers import DIRECT

    plans = (SHORT_ALONE, SHORT_BUSY) if chosen.short else (ALONE, BUSY)
    return measure_overhead([DIRECT, *_names(chosen)], plans, cores, chosen.out / "logs", tell)


def _streams(chosen: argparse.Namespace, cores: "Cores", tell: "Callable[[str], None]") -> "list[StreamsRun]":
    from proof.load.streams import measure_streams

    size = (chosen.streams, chosen.tokens, chosen.token_ms / 1000)
    return [
        measure_streams(name, *size, cores, chosen.out / "logs", tell, dies=dies)
        for dies in (False, True)
        for name in _names(chosen)
    ]


def _soak(chosen: argparse.Namespace, cores: "Cores", tell: "Callable[[str], None]") -> "SoakRun":
    from proof.load.soak import soak

    return soak(chosen.minutes, chosen.seed, cores, chosen.out / "logs", tell)


def _good(overhead: "list[OverheadRun]", streams: "list[StreamsRun]", soaked: "SoakRun | None") -> bool:
    """Judges our own router alone."""
    from proof.load.routers import OURS

    right = all(not each.wrong for run in overhead for each in run.found if each.name == OURS)
    whole_streams = all(run.right == run.streams for run in streams if run.name == OURS)
    return right and whole_streams and (soaked is None or soaked.passed)
