"""The end of a run: one table, a file with every request, and the lines that it writes on its way."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from kvlease.console.numbers import count
from kvlease.console.origin import ENGINE, origin
from kvlease.console.tables import Cell, Table, verdict
from proof.failover.arms import ARMS
from proof.failover.judge import PROMISES, FailoverPromise, broken
from proof.failover.outcome import FAULTS, SceneRun


def table(runs: Sequence[SceneRun]) -> Table:
    """Every fault and figure, and a column for each router that was played."""
    arms = [arm for arm in ARMS if any(run.arm == arm.name for run in runs)]
    lines: list[Sequence[str | Cell]] = []
    for fault, name in FAULTS.items():
        of_arms = [next((run for run in runs if (run.arm, run.fault) == (arm.name, fault)), None) for arm in arms]
        if any(of_arms):
            lines.append([name, *(_requests(run) for run in of_arms), ""])
            lines += [_line(promise, of_arms) for promise in PROMISES]
    return Table(("", *(arm.heading for arm in arms), "promised"), lines, title="One engine of three fails")


def _requests(run: SceneRun | None) -> str:
    return "-" if run is None else f"{count(len(run.requests))} requests"


def _line(promise: FailoverPromise, runs: Sequence[SceneRun | None]) -> list[str | Cell]:
    return [f"  {promise.figure}", *(_cell(promise, run) for run in runs), "none"]


def _cell(promise: FailoverPromise, run: SceneRun | None) -> str | Cell:
    value = None if run is None else promise.measure(run)
    if run is None or value is None:
        return "-"
    of = {PROMISES[0]: len(list(run.without_token())), PROMISES[2]: len(list(run.with_part()))}.get(promise)
    text = count(value) if of is None else f"{count(value)} of {count(of)}"
    return Cell(text, verdict(promise.kept(run)).tone)


def describe_scene(run: SceneRun) -> str:
    """Describes what came of a scene."""
    fates = Counter(request.fate for request in run.requests)
    answers = ", ".join(f"{number} {fate}" for fate, number in fates.most_common())
    again = "" if run.again is None else f"; {run.again} prompts prefilled twice ({run.tokens_again} tokens)"
    lost = f"{run.lost} of {len(list(run.without_token()))} without a token lost"
    return f"{FAULTS[run.fault]}: {len(run.requests)} requests: {answers}; {lost}{again}; {run.left} blocks left on P"


def document(runs: Sequence[SceneRun]) -> dict[str, Any]:
    """Every request, as it goes into failover.json. Times are in seconds since the fault."""
    return {**origin(ENGINE), "broken": broken(runs), "scenes": [_scene(run) for run in runs]}


def _scene(run: SceneRun) -> dict[str, Any]:
    return {
        "arm": run.arm,
        "fault": run.fault,
        "took_s": run.took_s,
        **{name(promise): promise.measure(run) for promise in PROMISES},
        "tokens_prefilled_twice": run.tokens_again,
        "prefills": run.prefills,
        "requests": list(_requests_of(run)),
    }


def name(promise: FailoverPromise) -> str:
    """The figure's key in the file."""
    return promise.figure.replace(" ", "_")


def _requests_of(run: SceneRun) -> Iterator[dict[str, Any]]:
    for request in run.requests:
        yield {
            key: round(value - run.fault_at, 3) if key.endswith("_at") and value is not None else value
            for key, value in asdict(request).items()
        }
