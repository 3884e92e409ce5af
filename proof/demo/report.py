"""The end of the demo: one table, stock beside kvlease, and a file with every figure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kvlease.console.numbers import seconds
from kvlease.console.origin import ENGINE, origin
from kvlease.console.tables import Cell, Table, verdict
from proof.demo.outcome import ActOutcome, Answers
from proof.demo.promises import DemoPromise, Judgement


def table(verdicts: Sequence[Judgement]) -> Table:
    """Stock beside kvlease, and what is promised."""
    return Table(
        ("", "stock", "kvlease", "promised", ""),
        [(_label(each), *_found(each), each.promise.limit_text, verdict(each.kept)) for each in verdicts],
        title="Stock vLLM beside kvlease",
    )


def _label(of: Judgement) -> str:
    outcome = of.kvlease or of.stock
    return f"{of.promise.figure} (lease {outcome.lease_s if outcome else 0.0:g} s)"


def _found(of: Judgement) -> tuple[str, Cell]:
    return cell(of.promise, of.stock), Cell(cell(of.promise, of.kvlease), verdict(of.kept).tone)


def cell(promise: DemoPromise, outcome: ActOutcome | None) -> str:
    """A figure as the table shows it: "21.3 s", "6 of 6, HTTP 200", "0 of 6", or "-" where there is none."""
    value = None if outcome is None else promise.measure(outcome)
    if outcome is None or value is None:
        return "-"
    if promise.unit == "s":
        return seconds(value)
    total = outcome.answers.total if outcome.answers else 0
    text = f"{value:g} of {total}"
    if promise.unit == "of answers" and value and outcome.answers:
        text += f", {_statuses(outcome.answers)}"
    return text


def sentences(outcome: ActOutcome) -> list[str]:
    """Describes what came of a scenario."""
    said: list[str] = []
    if outcome.answers is not None:
        parts = (("right", outcome.answers.right), ("wrong", outcome.answers.wrong), ("failed", outcome.answers.failed))
        found = " and ".join(f"{count} {word}" for word, count in parts if count)
        said.append(f"of {outcome.answers.total} answers: {found} ({_statuses(outcome.answers)})")
    if outcome.counts is not None and outcome.counts.fence_checks:
        checks = ", ".join(f"{count} {verdict}" for verdict, count in outcome.counts.fence_checks.items())
        said.append(f"the fence was read after the data: {checks}")
    return said


def document(
    outcomes: Sequence[ActOutcome], verdicts: Sequence[Judgement], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Every figure, as it goes into demo.json. Times are in seconds."""
    return {
        **origin(ENGINE),
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


def _statuses(answers: Answers) -> str:
    return "HTTP " + ", ".join(str(status) for status in sorted(answers.statuses))
