"""The report: an HTML file that needs nothing beside it, and the JSON with every figure."""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from kvlease import __version__
from kvlease.fleet.compare import Comparison, Round, pace, pace_in_words
from kvlease.fleet.plots import over_time
from kvlease.fleet.rows import ROWS
from kvlease.fleet.source import Source
from kvlease.fleet.traces import Trace
from kvlease.sim.report import commit

TEMPLATE = "report.html.jinja"

SIMPLIFIED = (
    "The lease protocol is kvlease's own code, message by message, with stock's heartbeats and flat timeouts beside "
    "it. Engines, network, router and clients are models.",
    "An engine is a queue, KV memory in blocks, and steps whose length follows from what is in them. A prefill engine "
    "computes one prompt at a time, a decode engine keeps room for the whole output of a request from its beginning.",
    "There is no prefix cache: every prompt is computed whole, and the hash_ids of Mooncake's traces are not used.",
    "The router takes the less loaded of two engines drawn at random, and picks the decode engine after the prefill.",
    "The network loses no message and has no congestion; reads of one decode engine come one after the other.",
    "Clients do not come back: who gave up is gone, so overload costs less than where clients try again.",
    "Figures of time are those of the settings above, not of your engines: set yours, and compare policies, not "
    "milliseconds.",
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Of a table in the report."""

    text: str
    bad: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table in the report; the line with the number `chosen` stands out."""

    headings: Sequence[str]
    lines: Sequence[Sequence[Cell]]
    chosen: int | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the report."""

    title: str
    texts: Sequence[str]
    tables: Sequence[Grid] = ()
    plot: str = ""
    """A data URL, or nothing."""
    json: str = ""
    """To be copied, or nothing."""


def comparison_html(comparison: Comparison, command: str) -> str:
    """Policies side by side."""
    return render(
        title="The fleet in simulation: policies side by side",
        summary=pace_in_words(comparison.outcomes) + ".",
        command=command,
        parts=[_part(each) for each in comparison.rounds],
        settings=list(_settings(comparison)),
        meanings=ROWS,
    )


def render(**content: Any) -> str:
    """The page; see the template for what it shows."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    page = Environment(
        loader=PackageLoader("kvlease.fleet", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template(TEMPLATE)
    return page.render(**content, versions=versions(), commit=commit(), simplified=SIMPLIFIED)


def comparison_json(comparison: Comparison, command: str) -> dict[str, Any]:
    """Every figure. Times are in seconds."""
    return {
        **origin(command, comparison.setup.seed),
        "wall_s": comparison.wall_s,
        "million_requests_wall_s": pace(comparison.outcomes),
        "fleet": asdict(comparison.setup.fleet),
        "requests": source_json(comparison.setup.source),
        "mean_shape": asdict(comparison.terms.shape),
        "capacity_per_s": asdict(comparison.terms.capacity),
        "scenarios": [
            {
                "name": each.scenario.name,
                "what": each.scenario.what,
                "rate": each.rate,
                "faults": asdict(each.scenario.faults),
                "outcomes": [asdict(outcome) for outcome in each.outcomes],
            }
            for each in comparison.rounds
        ],
    }


def origin(command: str, seed: int) -> dict[str, Any]:
    """What a file was made by."""
    return {"command": command, "commit": commit(), "versions": versions(), "seed": seed}


def versions() -> dict[str, str]:
    return {"kvlease": __version__, "python": platform.python_version()}


def source_json(source: Source) -> dict[str, Any]:
    if isinstance(source, Trace):
        return {"trace": str(source.path), "speed": source.speed}
    return {"synthetic": asdict(source)}


def write(path: Path, content: str | Mapping[str, Any]) -> None:
    """A page, or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _part(of: Round) -> Part:
    first = of.outcomes[0]
    lines = [
        [Cell(row.label, hint=row.meaning), *(Cell(row.text(outcome), row.bad(outcome)) for outcome in of.outcomes)]
        for row in ROWS
    ]
    came = (
        f"{first.requests.arrived:,} requests, {of.rate:.3g} a second on average, in {first.window_s:,.0f} simulated "
        f"seconds; {first.crashes} crashes, {first.stalls} stalls (ticks at the foot of the plots, where they are few)."
    )
    return Part(
        title=f"{of.scenario.name}: {of.scenario.what}",
        texts=[came],
        tables=[Grid(["", *(outcome.policy for outcome in of.outcomes)], lines)],
        plot=over_time(of.outcomes),
    )


def _settings(comparison: Comparison) -> Iterator[tuple[str, str]]:
    setup, given = comparison.setup, comparison.terms
    yield "requests of each run", f"{setup.count:,}"
    yield "seed", str(setup.seed)
    yield "requests", requests_in_words(setup.source)
    yield "mean prompt and output", f"{given.shape.prompt:,.0f} and {given.shape.output:,.0f} tokens"
    yield (
        "requests a second that the fleet can do, about",
        f"{given.capacity.producers:,.3g} (prefill engines), {given.capacity.consumers:,.3g} (decode engines)",
    )
    yield from fleet_lines(setup.fleet)


def fleet_lines(fleet: Any) -> Iterator[tuple[str, str]]:
    """Every setting of a fleet, as a table shows it."""
    for each in fields(fleet):
        value = getattr(fleet, each.name)
        yield (
            each.name,
            f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value),
        )


def requests_in_words(source: Source) -> str:
    """Where requests come from."""
    if isinstance(source, Trace):
        return f"{source.path.name}, a recorded trace"
    bursts = source.bursts
    return (
        f"made: spells of {bursts.calm_s:g} s calm and {bursts.burst_s:g} s burst at {bursts.factor:g} times the rate "
        f"(gaps vary by {bursts.variation:.2f} times their mean), prompts of {source.prompts.median:g} tokens in the "
        f"median with a Pareto tail, outputs of {source.outputs.median:g}"
    )
