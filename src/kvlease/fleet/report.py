"""The report of a comparison: tables, an HTML file that needs no other file, and the JSON with every figure."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from kvlease.console.origin import origin
from kvlease.console.tables import Cell, Table
from kvlease.fleet.compare import Comparison, ScenarioOutcomes, describe_pace, pace
from kvlease.fleet.plots import over_time
from kvlease.fleet.rows import ROWS
from kvlease.fleet.traffic.source import Source
from kvlease.fleet.traffic.traces import Trace

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
class Section:
    """A part of the report."""

    title: str
    texts: Sequence[str]
    tables: Sequence[Table] = ()
    plot: str = ""
    """The plot as a data URL, or ""."""
    json: str = ""
    """The JSON to be copied, or ""."""


def comparison_html(comparison: Comparison, command: str) -> str:
    """Returns the page that shows policies side by side."""
    return render(
        title="The fleet in simulation: policies side by side",
        summary=describe_pace(comparison.outcomes) + ".",
        command=command,
        parts=[_part(each) for each in comparison.rounds],
        settings=list(_settings(comparison)),
        meanings=ROWS,
    )


def render(**content: Any) -> str:
    """Returns the page; the template has its content."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    page = Environment(
        loader=PackageLoader("kvlease.fleet", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template(TEMPLATE)
    return page.render(**content, **origin(), simplified=SIMPLIFIED)


def comparison_json(comparison: Comparison, command: str) -> dict[str, Any]:
    """Returns every figure. Times are in seconds."""
    return {
        "command": command,
        "seed": comparison.setup.seed,
        **origin(),
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


def source_json(source: Source) -> dict[str, Any]:
    if isinstance(source, Trace):
        return {"trace": str(source.path), "speed": source.speed}
    return {"synthetic": asdict(source)}


def comparison_tables(comparison: Comparison) -> Iterator[Table]:
    """Yields a table for each scenario, with policies side by side."""
    yield from map(_table, comparison.rounds)


def _table(of: ScenarioOutcomes) -> Table:
    outcomes = of.outcomes
    return Table(
        ["", *(outcome.policy for outcome in outcomes)],
        [
            [Cell(row.label, hint=row.meaning), *(_cell(row.text(each), row.bad(each)) for each in outcomes)]
            for row in ROWS
        ],
        title=_title(of),
        caption=_came(of),
    )


def _cell(text: str, bad: bool) -> Cell:
    return Cell(text, "bad" if bad else "")


def _part(of: ScenarioOutcomes) -> Section:
    marked = f"{_came(of)} (ticks at the foot of the plots, where they are few)."
    return Section(_title(of), [marked], [_table(of)], over_time(of.outcomes))


def _title(of: ScenarioOutcomes) -> str:
    return f"{of.scenario.name}: {of.scenario.what}"


def _came(of: ScenarioOutcomes) -> str:
    first = of.outcomes[0]
    return (
        f"{first.requests.arrived:,} requests, {of.rate:.3g} a second on average, in {first.window_s:,.0f} simulated "
        f"seconds; {first.crashes} crashes, {first.stalls} stalls"
    )


def _settings(comparison: Comparison) -> Iterator[tuple[str, str]]:
    setup, given = comparison.setup, comparison.terms
    yield "requests of each run", f"{setup.count:,}"
    yield "seed", str(setup.seed)
    yield "requests", describe_requests(setup.source)
    yield "mean prompt and output", f"{given.shape.prompt:,.0f} and {given.shape.output:,.0f} tokens"
    yield (
        "requests a second that the fleet can do, about",
        f"{given.capacity.producers:,.3g} (prefill engines), {given.capacity.consumers:,.3g} (decode engines)",
    )
    yield from fleet_lines(setup.fleet)


def fleet_lines(fleet: Any) -> Iterator[tuple[str, str]]:
    """Yields every setting of a fleet, as a table shows it."""
    for each in fields(fleet):
        value = getattr(fleet, each.name)
        yield (
            each.name,
            f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value),
        )


def describe_requests(source: Source) -> str:
    """Returns words for the source of requests."""
    if isinstance(source, Trace):
        return f"{source.path.name}, a recorded trace"
    bursts = source.bursts
    return (
        f"made: spells of {bursts.calm_s:g} s calm and {bursts.burst_s:g} s burst at {bursts.factor:g} times the rate "
        f"(gaps vary by {bursts.variation:.2f} times their mean), prompts of {source.prompts.median:g} tokens in the "
        f"median with a Pareto tail, outputs of {source.outputs.median:g}"
    )
