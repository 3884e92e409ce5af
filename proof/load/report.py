"""The findings of a run of load as tables, and as the content of its file."""

from collections.abc import Mapping, Sequence
from typing import Any

from kvlease.console.numbers import count, figure, percent
from kvlease.console.origin import origin
from kvlease.console.tables import Cell, Table, verdict
from proof.bench.frame.figures import Spread
from proof.bench.frame.machine import describe
from proof.bench.frame.report import ratio_text, spread_text
from proof.load.outcome import Growth, OverheadRun, SoakRun, StreamsRun

PACKAGES = ("vllm-router", "aiohttp", "uvicorn", "uvloop", "httptools")


def overhead_tables(run: OverheadRun) -> list[Table]:
    """The times through each router, beside those without one: of first tokens, and of whole answers."""
    how = f"{run.at_once} at a time, {run.tokens} tokens of {run.token_ms:g} ms"
    headings = ("", "median", "99th percentile", "more than none", "ratio", "processor time", "wrong")
    firsts: list[Sequence[str | Cell]] = []
    wholes: list[Sequence[str | Cell]] = []
    for each in run.found:
        wrong = Cell(f"{count(each.wrong)} of {count(each.answers)}", "bad" if each.wrong else "")
        cpu = "-" if each.cpu_ms is None else f"{figure(each.cpu_ms)} ms"
        firsts.append([each.name, *_pair(each.first_ms), _more(each.first_more_ms), ratio_text(each.first_ratio)])
        whole = [each.name, *_pair(each.whole_ms), _more(each.whole_more_ms), ratio_text(each.whole_ratio)]
        wholes.append([*whole, cpu, wrong])
    return [
        Table(headings[:5], firsts, title=f"The time to the first token: {how}"),
        Table(headings, wholes, title=f"The time to the end of the answer: {how}"),
    ]


def streams_table(runs: Sequence[StreamsRun]) -> Table:
    """Many streams at once."""
    lines: list[Sequence[str | Cell]] = [
        [
            f"{run.name}{', a D dies' if run.died else ''}",
            Cell(f"{count(run.right)} of {count(run.streams)}", "good" if run.right == run.streams else "bad"),
            f"{run.took_s:.2f} s",
            "{}, {}".format(*_pair(run.first_ms)),
            "{}, {}".format(*_pair(run.gap_ms)),
            f"{run.router_cpu_s:.2f} s",
            f"{run.router_mb:.0f} MB",
        ]
        for run in runs
    ]
    headings = ("", "right", "took", "first token: median, p99", "longest silence", "processor time", "memory")
    first = runs[0]
    title = f"{first.streams} streams at once, {first.tokens} tokens of {first.token_ms:g} ms"
    return Table(headings, lines, title=title)


def streams_reasons(runs: Sequence[StreamsRun]) -> list[str]:
    """Sentences on the streams that were not right."""
    return [
        f"{run.name}{', a D dies' if run.died else ''}: {number} times: {why}"
        for run in runs
        for why, number in sorted(run.whys.items(), key=lambda item: -item[1])
    ]


def soak_table(run: SoakRun) -> Table:
    """The findings of the long run, and what is promised."""
    answers = sum(run.fates.values())
    restarts = ", ".join(f"{number} of {role}" for role, number in sorted(run.restarts.items()))
    growth = "-" if run.growth is None else growth_text(run.growth)
    lines: list[Sequence[str | Cell]] = [
        ["answers", count(answers), "", ""],
        ["  … wrong", count(run.fates["wrong"]), "none", verdict(not run.fates["wrong"])],
        ["  … lost, and the client was told so", count(run.fates["lost"]), "", ""],
        ["engines killed, and started again", restarts or "none", "", ""],
        *([f"leases {how}", count(number), "", ""] for how, number in sorted(run.leases.items())),
        ["  … stranded: neither read nor released", count(run.stranded), "none", verdict(not run.stranded)],
        *([f"references {how}", count(number), "", ""] for how, number in sorted(run.reads.items())),
        ["prompts that a P computed twice", count(run.repeated), "", ""],
        ["the router's memory grows by", growth, "nothing", verdict(run.growth.flat if run.growth else None)],
        ["the router's share of its core", percent(run.router_cpu), "", ""],
    ]
    return Table(("", "found", "promised", ""), lines, title=f"{run.minutes:g} minutes of traffic with restarts")


def growth_text(growth: Growth) -> str:
    """The slope with its error."""
    return f"{growth.slope:+.1f} ± {growth.error:.1f} KiB a minute"


def document(
    overhead: Sequence[OverheadRun], streams: Sequence[StreamsRun], soaked: SoakRun | None
) -> Mapping[str, Any]:
    """All findings, as they go into load.json."""
    return {
        **origin(PACKAGES),
        "machine": describe(),
        "overhead": overhead,
        "streams": streams,
        "soak": soaked,
    }


def _pair(values: tuple[float, float]) -> list[str]:
    return [f"{figure(value)} ms" for value in values]


def _more(spread: Spread | None) -> str:
    return "-" if spread is None else "+" + spread_text(spread, "ms").removeprefix("+")
