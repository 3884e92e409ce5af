"""The end of a run: one table, and a file with the schedule, every answer and every fault."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kvlease.console.numbers import seconds
from kvlease.console.origin import ENGINE, origin
from kvlease.console.tables import Cell, Table, verdict
from proof.chaos.judge import PROMISES, ChaosPromise, broken
from proof.chaos.outcome import VERDICTS, Run


def table(runs: Sequence[Run]) -> Table:
    """The table of the runs, connector beside connector, with what is promised of kvlease and whether it was kept."""
    first = runs[0].schedule
    requests = sum(len(which.requests) for which in first.rounds)
    return Table(
        ("", *(run.connector for run in runs), "promised", ""),
        [
            *(_promised(promise, runs) for promise in PROMISES),
            (),
            *([figure, *values, "", ""] for figure, values in _figures(runs)),
        ],
        title=f"{requests} requests, {len(first.rounds)} faults, seed {first.seed}, memory {runs[0].memory}",
    )


def _promised(promise: ChaosPromise, runs: Sequence[Run]) -> list[str | Cell]:
    found = {run.connector: len(promise.find(run)) for run in runs}
    kept = not found["kvlease"] if "kvlease" in found else None
    return [promise.figure, *map(str, found.values()), "0", verdict(kept)]


def _figures(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    verdicts = [run.verdicts() for run in runs]
    rows = [(f"requests: {verdict}", [str(found[verdict]) for found in verdicts]) for verdict in VERDICTS]
    rows.append(("late reads refused by the fence", [str(run.counts.get("fence_checks revoked", 0)) for run in runs]))
    rows.append(("late reads saved: memory not needed yet", [str(run.saved) for run in runs]))
    rows.append(("blocks free at the latest after", [_latest(run) for run in runs]))
    rows.append(("took", [f"{run.took_s / 60:.1f} min" for run in runs]))
    return rows


def _latest(run: Run) -> str:
    times = [outcome.free_s for outcome in run.rounds]
    if None in times:
        return "never"
    return seconds(max((time for time in times if time is not None), default=0.0))


def document(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything, as it goes into chaos.json. Times are in seconds."""
    return {
        **origin(ENGINE),
        "schedule": asdict(runs[0].schedule),
        "runs": [_run(run) for run in runs],
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "connector": run.connector,
        "memory": run.memory,
        "saved": run.saved,
        "took_s": run.took_s,
        "requests": dict(run.verdicts()),
        "broken": broken(run),
        "counts": dict(run.counts),
        "leftovers": asdict(run.leftovers),
        "faults": [
            {
                "number": outcome.round.fault.number,
                "kind": outcome.round.fault.kind,
                "term_s": outcome.round.final_term_s,
                "began_s": outcome.began_s,
                "ended_s": outcome.ended_s,
                "free_s": outcome.free_s,
                "bound_s": outcome.bound_s,
                "stranded": outcome.stranded,
                "died": list(outcome.died),
                "alone": [asdict(fill) for fill in outcome.fills],
                "requests": [
                    {
                        "number": request.request.number,
                        "client": request.request.client,
                        "verdict": request.verdict,
                        "retries": request.retries,
                        "answers": [asdict(answer) for answer in request.answers],
                    }
                    for request in outcome.requests
                ],
            }
            for outcome in run.rounds
        ],
    }
