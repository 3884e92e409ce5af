"""The report of `kvlease fleet plan`: tables for a console, a page, and the JSON with every figure."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from kvlease.console.origin import origin
from kvlease.console.tables import Table
from kvlease.fleet.advice import HEADINGS, MEANINGS, Advice, AdviceStep, describe_rule, lines, to_paste
from kvlease.fleet.plan import tried_json
from kvlease.fleet.plots import scatter
from kvlease.fleet.report import Section, describe_requests, fleet_lines, render, source_json
from kvlease.fleet.traffic.sampling import describe
from kvlease.fleet.traffic.source import Source

_TITLES = {
    "term": "kv_lease_duration: the term, with grace and interval as they are derived",
    "grace": "kv_lease_orphan_grace: the grace, with this term",
    "interval": "kv_lease_renew_interval: the interval, with this term and grace",
}


def tables(advice: Advice) -> Iterator[Table]:
    """Yields a table for each setting, in which the recommended candidate is highlighted."""
    for step in advice.steps:
        yield Table(HEADINGS, lines(step, _engines(advice)), _TITLES[step.setting], chosen=step.chosen)


def words(advice: Advice) -> list[str]:
    """Returns sentences on how it was played, the rule, and the warning if there is one."""
    troubles = advice.troubles
    said = [
        f"Played: {describe(advice.sample)}",
        f"Leases have to survive stalls of {troubles.stall_s:g} s; {troubles.survived_s:g} s were played, one for each "
        f"decode engine. Memory is for {troubles.crashes_per_hour:g} crashes an hour of each decode engine and "
        f"{100 * advice.sample.fleet.lost_share:g} % of requests lost by the router.",
        f"The rule: {describe_rule(advice)}",
    ]
    return [*said, f"WARNING: {advice.warning}"] if advice.warning else said


def plan_html(advice: Advice, source: Source, command: str, seed: int) -> str:
    """Returns the page as HTML."""
    best = Section("Recommended", [words(advice)[-1]] if advice.warning else [], json=to_paste(advice))
    return render(
        title="Which lease settings for this traffic",
        summary="For vLLM's kv_connector_extra_config on prefill and decode engines: " + to_paste(advice),
        command=command,
        parts=[
            best,
            *map(partial(_part, advice), advice.steps, tables(advice)),
            Section("How it was chosen", words(advice)),
        ],
        settings=[
            ("seed", str(seed)),
            ("requests", describe_requests(source)),
            *fleet_lines(advice.sample.fleet),
        ],
        meanings=MEANINGS,
    )


def plan_json(advice: Advice, source: Source, command: str, seed: int) -> dict[str, Any]:
    """Returns every figure. Times are in seconds."""
    sample = advice.sample
    return {
        "command": command,
        "seed": seed,
        **origin(),
        "recommended": advice.best.candidate.extra_config,
        "rule": describe_rule(advice),
        "warning": advice.warning,
        "troubles": asdict(advice.troubles),
        "fleet": asdict(sample.fleet),
        "requests": source_json(source),
        "sample": {
            "count": len(sample.arrivals),
            "part": sample.part,
            "begin_s": sample.begin_s,
            "window_s": sample.window_s,
            "rate": sample.rate,
            "mean_rate": sample.mean_rate,
            "looked_through": sample.looked_through,
            "load": sample.load,
        },
        "steps": [
            {"setting": step.setting, "chosen": step.chosen, "tried": [tried_json(one) for one in step.tried]}
            for step in advice.steps
        ],
    }


def _part(advice: Advice, step: AdviceStep, table: Table) -> Section:
    points = [
        (line[0].text, one.calm.traffic.bytes_per_s / _engines(advice), 100 * one.stranded_share)
        for line, one in zip(table.cells, step.tried, strict=True)
    ]
    plot = scatter(points, "lease traffic, bytes a second and engine", "stranded memory, %", step.chosen)
    return Section(table.title, [], [table], plot)


def _engines(advice: Advice) -> int:
    return advice.sample.fleet.producers + advice.sample.fleet.consumers
